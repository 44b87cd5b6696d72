"""Describe the model that a run starts with, and load it from a folder.

Rule book:

* a model from a folder must have the shape and the update rule of the configuration, or is refused with all
  differences, because people will read the configuration as a description of the run;
* the folder must have exactly the weights of the model; they are trained in float32, whatever their stored dtype;
* dropout, which only training uses, comes from the configuration.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedTokenizerBase

from bundler.errors import IntegrityError
from infini_llama.errors import ConfigError
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.run_folder.checkpoints import PROVENANCE, SHARDS
from infini_llama.settings.sections import Settings

# Keys of the model section that do not describe the weights.
_FREE = {"embedding_dropout", "memory_write_spread", "initializer_range"}
_MOST_LISTED = 20


def new_config(settings: Settings, tokenizer: PreTrainedTokenizerBase) -> InfiniLlamaConfig:
    """Return the configuration of a new model with the tokenizer's vocabulary."""
    model = settings.model
    return InfiniLlamaConfig(
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
        memory_write_spread=model.memory_write_spread,
        tie_word_embeddings=model.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
        initializer_range=model.initializer_range,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def read_config(folder: Path, settings: Settings, tokenizer: PreTrainedTokenizerBase) -> InfiniLlamaConfig:
    """Return the configuration of the model in `folder`, with dropout and spread of the settings.

    Raises:
        ConfigError: It is not an Infini-Llama, differs from the settings, or has too few embeddings for the tokenizer.
    """
    config = read_own_config(folder)
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
            hint="change the configuration to the values found, or convert the model again",
        )
    if len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"{folder} has embeddings for {config.vocab_size:,} tokens, and the tokenizer "
            f"{settings.tokenizer} has {len(tokenizer):,}",
            hint="name the tokenizer that the model was trained with",
        )
    config.embedding_dropout = settings.model.embedding_dropout
    config.memory_write_spread = settings.model.memory_write_spread
    return config


def load_exactly(
    folder: Path, config: InfiniLlamaConfig, *, new: str | None = None, dtype: torch.dtype | None = None
) -> InfiniLlamaForCausalLM:
    """Load a model; its weights must fit, with none missing and none left over.

    Args:
        folder: Folder with the weights, in safetensors.
        config: Configuration of the model to load them into.
        new: Suffix of the names of parameters that the folder must not have, and that keep their initial values.
        dtype: The dtype to load into; None for the stored one.

    Raises:
        ConfigError: The weights are in shards.
        IntegrityError: Another weight is missing, or a weight is left over or of another shape; or the files of the
            weights are damaged or missing.
    """
    check_is_whole(folder)
    try:
        loaded: Any = InfiniLlamaForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype or "auto", local_files_only=True, output_loading_info=True
        )
    except (SafetensorError, OSError) as error:
        raise IntegrityError(
            f"{folder}: expected weights in safetensors, found none that can be read: {error}",
            hint="bring the folder again, or name another checkpoint",
        ) from error
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


def check_is_whole(folder: Path) -> None:
    """Check that weights are not in shards, which `from_pretrained` does not read.

    Raises:
        ConfigError: They are.
    """
    if (folder / SHARDS).is_dir():
        raise ConfigError(
            f"{folder}: expected a model in safetensors, found a checkpoint in shards",
            hint=f"run `infini-llama export {folder} --output-dir FOLDER`, and name that folder",
        )


def starting_record(folder: Path | None) -> dict[str, Any]:
    """Return the record of the folder that a run started from, for its provenance; empty if `folder` is None."""
    if folder is None:
        return {}
    try:
        origin = json.loads((folder / PROVENANCE).read_bytes())
    except (OSError, ValueError):
        origin = None
    return {"folder": str(folder), "provenance": origin}


def read_own_config(folder: Path) -> InfiniLlamaConfig:
    """Return the configuration of the model in a folder.

    Raises:
        ConfigError: It has none, or is of another kind.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: expected a model folder with config.json: {error}",
            hint="convert a Llama with `infini-llama convert`, or name a checkpoint",
        ) from error
    if not isinstance(config, InfiniLlamaConfig):
        raise ConfigError(
            f"{folder}: expected a model of type 'infini_llama', found {config.model_type!r}",
            hint="convert it with `infini-llama convert`",
        )
    return config
