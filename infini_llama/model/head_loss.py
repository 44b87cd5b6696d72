"""Compute the training loss of the language-model head in groups of tokens, without all logits of a row in memory.

The logits of a row and their gradient, tokens x vocabulary each, are by far the largest arrays of a training step.
torch's `linear_cross_entropy` computes them, and their gradients, group by group, but only in float32. For a head that
computes in bfloat16, `_GroupedLoss` does the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.utils.generic import maybe_autocast

# Measured on a CPU with vocabularies of 4,000 to 50,000: groups of 128 to 512 tokens are the fastest, within 4 % of
# each other. Smaller groups make matrix products too narrow, larger ones do not fit the CPU's caches.
_TOKENS = 256


def can_skip_logits(head: nn.Module, loss_function: Any, hidden_states: Tensor) -> bool:
    """Return whether `causal_lm_loss` gives the same result as the model's own loss, and faster.

    It does not: in float32 with torch before 2.13; under `torch.compile`, which fuses operations itself; in float64,
    which transformers' loss rounds; in float16, whose gradients need a scaled loss; and if the head or the loss was
    replaced (adapters, quantization, tensor parallelism, hooks).
    """
    dtype = _computing_dtype(hidden_states)
    return (
        (dtype == torch.bfloat16 or (dtype == torch.float32 and hasattr(functional, "linear_cross_entropy")))
        and not torch.compiler.is_compiling()
        and loss_function is ForCausalLMLoss
        and _is_plain(head)
    )


def _computing_dtype(hidden_states: Tensor) -> torch.dtype:
    """Return the dtype in which the head would compute."""
    kind = hidden_states.device.type
    if hidden_states.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return hidden_states.dtype


def _is_plain(head: nn.Module) -> bool:
    """Return whether calling the head only multiplies with its weight, and adds its bias."""
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
    """Return the same loss as transformers' `ForCausalLMLoss`; both ignore other arguments.

    Args:
        hidden_states: `(B, T, hidden_size)`.
        head: The head, from `hidden_size` to `vocab_size`.
        labels: `(B, T)`, the tokens themselves; `ignore_index` where no token is to be predicted.
        shift_labels: `(B, T)`, the next tokens; used instead of `labels`.
        num_items_in_batch: Divisor of the sum of losses; None for the number of labels.
        ignore_index: The label that is not counted.
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
    """The sum of the cross entropies of a bfloat16 head, and its gradients, computed in groups of tokens.

    Each token's loss is bit for bit the one that the model's own loss computes in float32 from bfloat16 logits. Sums
    over groups, of the loss and of the weight's gradient, are in float32.
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
                # The gradient of a token's loss: the probabilities, minus 1 at the expected token.
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
