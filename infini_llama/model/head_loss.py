"""The training loss of the language-model head, in groups of tokens: a row's logits never exist all at once.

The logits of one row and their gradient are the largest arrays of a training step by far, tokens x vocabulary each.
torch's `linear_cross_entropy` goes through them by groups, and computes the gradients as it passes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.loss.loss_utils import ForCausalLMLoss

# On a CPU, 128 to 512 tokens at a time are the fastest, within 4 % of each other, for vocabularies of 4,000 to 50,000:
# fewer make thin matrix products, and more do not fit its caches.
_TOKENS = 256


def can_skip_logits(head: nn.Module, loss_function: Any, hidden_states: Tensor) -> bool:
    """Return whether `causal_lm_loss` computes what the model's own loss would, and faster.

    Otherwise the model makes its logits: with torch before 2.13; under `torch.compile`, which has fusions of its own;
    in other precisions than float32, for in bfloat16 the operation is slower than what it replaces, and transformers'
    loss rounds float64; and when the head or the loss is not the one that the model was built with (adapters,
    quantization, tensor parallelism, hooks).
    """
    return (
        hasattr(functional, "linear_cross_entropy")
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(hidden_states.device.type)
        and hidden_states.dtype == torch.float32
        and loss_function is ForCausalLMLoss
        and _is_plain(head)
    )


def _is_plain(head: nn.Module) -> bool:
    """Return whether calling the head is nothing but a product with its weight."""
    return (
        type(head) is nn.Linear
        and type(head.weight) is nn.Parameter
        and "forward" not in head.__dict__
        and not any((head._forward_hooks, head._forward_pre_hooks, head._backward_hooks))
    )


def causal_lm_loss(
    hidden_states: Tensor,
    head: nn.Linear,
    labels: Tensor,
    *,
    shift_labels: Tensor | None = None,
    num_items_in_batch: Tensor | int | None = None,
    ignore_index: int = -100,
    **_: Any,
) -> Tensor:
    """Return transformers' `ForCausalLMLoss` of the head's logits; other arguments mean nothing to either.

    Args:
        hidden_states: `(B, T, hidden_size)`.
        head: From `hidden_size` to `vocab_size`.
        labels: `(B, T)`, the tokens themselves; `ignore_index` where none is to be predicted.
        shift_labels: `(B, T)`, the next tokens; in place of `labels`.
        num_items_in_batch: What to divide the sum by; None for the number of labels.
        ignore_index: The label that counts nothing.
    """
    if shift_labels is None:
        shift_labels = functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    targets = shift_labels.reshape(-1).to(hidden_states.device)
    total: Tensor = functional.linear_cross_entropy(
        hidden_states.flatten(0, -2),
        head.weight,
        targets,
        linear_bias=head.bias,
        reduction="sum",
        ignore_index=ignore_index,
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=_TOKENS, chunking_method=None),
    )
    if num_items_in_batch is None:
        num_items_in_batch = (targets != ignore_index).sum()
    return total / num_items_in_batch
