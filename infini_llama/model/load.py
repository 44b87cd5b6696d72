"""The model that a run starts with: freshly initialised, or the one of a folder.

Rule book:

* a folder's model has the shape and the update rule that the configuration says, or is refused with every difference:
  the configuration describes the run, also to those who read it beside the checkpoint;
* its weights are there, all of them and no others, and are trained in float32 whatever they were stored in;
* what concerns training alone, dropout, is the configuration's.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedTokenizerBase

from bundler.errors import IntegrityError
from infini_llama.errors import ConfigError
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.run_folder.checkpoints import PROVENANCE
from infini_llama.settings.sections import Settings

# Of the model section: what does not describe the weights.
_FREE = {"embedding_dropout", "initializer_range"}
_MOST_LISTED = 20


def build_model(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> InfiniLlamaForCausalLM:
    """Return a freshly initialised model with the tokenizer's vocabulary."""
    model = settings.model
    config = InfiniLlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=model.num_key_value_heads,
        max_position_embeddings=settings.row_length,
        segment_length=model.segment_length,
        memory_update=model.memory_update,
        gate_init=model.gate_init,
        embedding_dropout=model.embedding_dropout,
        tie_word_embeddings=model.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
        initializer_range=model.initializer_range,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return InfiniLlamaForCausalLM(config)


def load_model(folder: Path, settings: Settings, tokenizer: PreTrainedTokenizerBase) -> InfiniLlamaForCausalLM:
    """Return the model that `infini-llama convert` or a training left in `folder`, in float32.

    Raises:
        ConfigError: It is no Infini-Llama, not the one that the settings describe, or too small for the tokenizer.
        IntegrityError: Weights are missing, left over, or of another shape.
    """
    config = _configuration(folder)
    theirs = config.to_dict()
    theirs["rope_theta"] = theirs["rope_parameters"]["rope_theta"]
    wanted = dataclasses.asdict(settings.model)
    wanted["num_key_value_heads"] = wanted["num_key_value_heads"] or wanted["num_attention_heads"]
    differences = [
        f"\n  model.{key}: expected {value!r}, found {theirs[key]!r}"
        for key, value in wanted.items()
        if key not in _FREE and theirs[key] != value
    ]
    if differences:
        raise ConfigError(
            f"{folder} holds another model than the configuration describes{''.join(differences)}",
            hint="write what was found into the configuration, or convert the model again",
        )
    if len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"{folder} has embeddings for {config.vocab_size:,} tokens, and the tokenizer "
            f"{settings.tokenizer} has {len(tokenizer):,}",
            hint="name the tokenizer that the model was trained with",
        )
    config.embedding_dropout = settings.model.embedding_dropout
    return load_exactly(folder, config, dtype=torch.float32)


def load_exactly(
    folder: Path, config: InfiniLlamaConfig, *, new: str | None = None, dtype: torch.dtype | None = None
) -> InfiniLlamaForCausalLM:
    """Load weights that fit, with none missing and none left over.

    Args:
        folder: Weights, in safetensors.
        config: Of the model to load them into.
        new: End of the names of parameters that must not be there yet, and stay as they are initialised.
        dtype: To load into; None for the one that they are stored in.

    Raises:
        IntegrityError: Something else is missing, or anything is left over or of another shape.
    """
    loaded: Any = InfiniLlamaForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype or "auto", local_files_only=True, output_loading_info=True
    )
    model, report = loaded
    fresh = {name for name, _ in model.named_parameters() if new is not None and name.endswith(new)}
    faults = [f"missing: {name}" for name in sorted(set(report["missing_keys"]) - fresh)]
    faults += [f"left over: {name}" for name in sorted(report["unexpected_keys"])]
    faults += [f"another shape: {fault}" for fault in sorted(map(str, report["mismatched_keys"]))]
    faults += [f"already there: {name}" for name in sorted(fresh - set(report["missing_keys"]))]
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults[:_MOST_LISTED])
        raise IntegrityError(f"{folder}: {len(faults)} weights are not those of this Llama{listed}")
    assert isinstance(model, InfiniLlamaForCausalLM)
    return model


def starting_record(folder: Path | None) -> dict[str, Any]:
    """Return what a checkpoint's provenance says of the folder that its run started from; nothing for no folder."""
    if folder is None:
        return {}
    try:
        origin = json.loads((folder / PROVENANCE).read_bytes())
    except (OSError, ValueError):
        origin = None
    return {"folder": str(folder), "provenance": origin}


def _configuration(folder: Path) -> InfiniLlamaConfig:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: expected a model folder with config.json: {error}",
            hint="make one of a Llama with `infini-llama convert`, or name a checkpoint",
        ) from error
    if not isinstance(config, InfiniLlamaConfig):
        raise ConfigError(
            f"{folder}: expected a model of type 'infini_llama', found {config.model_type!r}",
            hint="make one of it with `infini-llama convert`",
        )
    return config
