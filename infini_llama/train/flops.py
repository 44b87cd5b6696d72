"""How many floating-point operations a model takes for a token, for model FLOP/s and MFU.

Counted as in PaLM (arXiv:2204.02311, appendix B): a multiplication with its addition is two, matrix products only,
every token as if it saw a whole segment, and the backward pass as twice the forward one. What activation checkpointing
computes again is not counted, so the figure says how much training was done and not how busy the device was.
"""

from __future__ import annotations

from infini_llama.model.configuration import InfiniLlamaConfig


def forward_flops(config: InfiniLlamaConfig) -> int:
    """Return the operations of a forward pass for each token, with the logits."""
    heads, shared = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    width = config.head_dim or config.hidden_size // heads
    projections = config.hidden_size * width * 2 * (heads + shared)
    mlp = 3 * config.hidden_size * config.intermediate_size
    # Scores and values.
    local = 2 * config.segment_length * heads * width
    # A_mem of each query; sigma(K)^T V of each key; by the delta rule what the memory answers to each key before.
    memory = heads * (width + 1) * width + shared * width * width
    if config.memory_update == "delta":
        memory += shared * (width + 1) * width
    layer = projections + mlp + local + memory
    return 2 * (config.num_hidden_layers * layer + config.hidden_size * config.vocab_size)


def training_flops(config: InfiniLlamaConfig) -> int:
    """Return the operations of forward and backward pass for each token."""
    return 3 * forward_flops(config)
