"""How many floating-point operations training a model of the benchmarks on a token needs."""

from __future__ import annotations

from typing import Any

from infini_llama.train.flops import training_flops


def count_operations(model: Any, length: int) -> float:
    """Return the operations of training on a token, without those that are done again; of causal attention one half.

    `training_flops` counts all of it, as PaLM does. On a long row that would make a Llama look twice as busy as it is.

    Args:
        model: Ours, or a stock Llama whose head has the matrix of the embeddings.
        length: Tokens of the row, all of which a Llama attends to.
    """
    config = model.config
    infini = config.model_type == "infini_llama"
    span = config.segment_length if infini else length
    half: float = 3.0 * 2 * config.num_hidden_layers * span * config.hidden_size
    if infini:
        return training_flops(config) - half
    # The head's matrix is that of the embeddings.
    matrices: int = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    return 3.0 * 2 * matrices + half
