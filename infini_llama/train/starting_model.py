"""Make the model that a run starts with, whole or as this rank's share."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from infini_llama.model.load import load_exactly, new_config, read_config
from infini_llama.model.modeling import InfiniLlamaForCausalLM
from infini_llama.parallel.initialize import draw_weights, initialize
from infini_llama.parallel.sharding import build_sharded
from infini_llama.run_folder import checkpoints
from infini_llama.settings.sections import Settings


def make_model(
    settings: Settings,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path | None,
    arguments: TrainingArguments,
    *,
    is_resumed: bool,
) -> InfiniLlamaForCausalLM:
    """Return the model that a run starts with; under FSDP2 this rank's share of it.

    Args:
        settings: The configuration.
        tokenizer: The run's tokenizer.
        folder: Where the model is; None for a new one.
        arguments: The library's arguments, which know the ranks.
        is_resumed: Whether the run goes on from a checkpoint, whose weights are loaded later.

    Raises:
        ConfigError: The model in the folder is not that of the configuration.
        IntegrityError: Weights are missing, left over, or of another shape.
    """
    training = settings.training
    config = read_config(folder, settings, tokenizer) if folder else new_config(settings, tokenizer)
    if training.distributed != "fsdp2" or arguments.world_size == 1:
        # Weights in shards are loaded later, with the rest of a checkpoint.
        has_weights = folder is not None and not (is_resumed and (folder / checkpoints.SHARDS).is_dir())
        return load_exactly(folder, config, dtype=torch.float32) if folder and has_weights else initialize(config)
    return build_sharded(
        config,
        # A checkpoint's weights are loaded later, with the rest of it.
        None if is_resumed else folder or draw_weights(config),
        device=arguments.device,
        dtype=torch.bfloat16 if training.precision == "bfloat16" else torch.float32,
        compiled=training.compile,
    )
