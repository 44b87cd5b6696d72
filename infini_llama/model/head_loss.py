"""The training loss of the language-model head, in groups of tokens: a row's logits never exist all at once.

The logits of one row and their gradient are the largest arrays of a training step by far, tokens x vocabulary each.
torch's `linear_cross_entropy` goes through them by groups, and computes the gradients as it passes; in float32, that
is. Where the head computes in bfloat16, `_GroupedLoss` does the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.utils.generic import maybe_autocast

# On a CPU, 128 to 512 tokens at a time are the fastest, within 4 % of each other, for vocabularies of 4,000 to 50,000:
# fewer make thin matrix products, and more do not fit its caches.
_TOKENS = 256


def can_skip_logits(head: nn.Module, loss_function: Any, hidden_states: Tensor) -> bool:
    """Return whether `causal_lm_loss` computes what the model's own loss would, and faster.

    Otherwise the model makes its logits: in float32 with torch before 2.13; under `torch.compile`, which has fusions of
    its own; in float64, which transformers' loss rounds, and float16, whose gradients need the scale of the loss; and
    when the head or the loss is not the one that the model was built with (adapters, quantization, tensor parallelism,
    hooks).
    """
    dtype = _computing_dtype(hidden_states)
    return (
        (dtype == torch.bfloat16 or (dtype == torch.float32 and hasattr(functional, "linear_cross_entropy")))
        and not torch.compiler.is_compiling()
        and loss_function is ForCausalLMLoss
        and _is_plain(head)
    )


def _computing_dtype(hidden_states: Tensor) -> torch.dtype:
    """Return what the head would compute in."""
    kind = hidden_states.device.type
    if hidden_states.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return hidden_states.dtype


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
    rows, dtype = hidden_states.flatten(0, -2), _computing_dtype(hidden_states)
    total: Tensor
    if dtype == torch.bfloat16:
        total = _GroupedLoss.apply(rows, head.weight, head.bias, targets, ignore_index)  # type: ignore[no-untyped-call]
    else:
        total = functional.linear_cross_entropy(
            rows,
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


class _GroupedLoss(torch.autograd.Function):
    """The sum of the cross entropies of a bfloat16 head, with its gradients, in groups of tokens.

    Each token's loss is to the bit that of bfloat16 logits in float32, as the model's own. What the groups add up, the
    loss and the gradient of the weight, is added in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, ignore_index: int
    ) -> Tensor:
        wanted = ctx.needs_input_grad
        total = torch.zeros((), dtype=torch.float32, device=rows.device)
        by_row = torch.empty_like(rows) if wanted[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        by_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
        with maybe_autocast(rows.device.type, enabled=False):
            matrix = weight.to(torch.bfloat16)
            offset = None if bias is None else bias.to(torch.bfloat16)
            for group in range(0, len(rows), _TOKENS):
                inputs, expected = (x[group : group + _TOKENS] for x in (rows, targets))
                inputs = inputs.to(torch.bfloat16)
                logits = functional.linear(inputs, matrix, offset).float()
                total += functional.cross_entropy(logits, expected, reduction="sum", ignore_index=ignore_index)
                if not any(wanted):
                    continue
                counted = (expected != ignore_index).unsqueeze(1)
                # The gradient of a token's loss: what was expected, taken from the probabilities.
                slope = torch.softmax(logits, dim=1)
                slope.scatter_add_(1, expected.unsqueeze(1) * counted, -counted.float()).mul_(counted)
                if by_bias is not None:
                    by_bias += slope.sum(0)
                narrow = slope.to(torch.bfloat16)
                if by_row is not None:
                    by_row[group : group + _TOKENS] = narrow @ matrix
                if by_weight is not None:
                    by_weight += narrow.T @ inputs
        ctx.save_for_backward(by_row, by_weight, by_bias)
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_row, by_weight, by_bias = ctx.saved_tensors
        return (
            None if by_row is None else by_row * grads[0].to(by_row.dtype),
            None if by_weight is None else (by_weight * grads[0]).to(ctx.dtypes[0]),
            None if by_bias is None else (by_bias * grads[0]).to(ctx.dtypes[1]),
            None,
            None,
        )
