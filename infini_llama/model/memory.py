"""The compressive memory of Infini-attention: pure functions on the pair (M, z).

The source is the section "Compressive Memory" of arXiv 2404.07143, and the steps have its names. Rule book:

* no learned parameter, no state, no position embedding: keys and queries are unrotated;
* arithmetic is in the dtype of the arguments, and the caller passes at least float32 (`memory_dtype`): in
  bfloat16 the normaliser stops growing after a few hundred segments;
* an empty memory reads as exactly 0, never as 0/0. The caller decides what to use instead;
* gradients flow through everything; nothing is detached here.

Dimension letters: B rows, N segments, S slots of a segment, H key/value heads, G query heads that share one of
them (grouped-query attention), K key width, V value width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Memory(NamedTuple):
    """An associative memory.

    Attributes:
        matrix: M, the sum of sigma(k) v^T, shape `(..., K, V)`.
        normaliser: z, the sum of sigma(k), shape `(..., K)`.
    """

    matrix: Tensor
    normaliser: Tensor

    def where(self, keep: Tensor) -> Memory:
        """Return the memory, with zeros where `keep` (bool, shape of the leading dimensions) is false."""
        keep = keep.view(*keep.shape, *(1,) * (self.normaliser.dim() - keep.dim()))
        return Memory(self.matrix * keep.unsqueeze(-1), self.normaliser * keep)

    def plus(self, other: Memory) -> Memory:
        """Return the sum of two memories; `+` would concatenate the tuples."""
        return Memory(self.matrix + other.matrix, self.normaliser + other.normaliser)


def memory_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a model of `dtype` keeps its memory: float32, or float64 for a float64 model."""
    return torch.promote_types(dtype, torch.float32)


def empty_memory(rows: int, heads: int, width: int, *, dtype: torch.dtype, device: torch.device) -> Memory:
    """Return the memory of `rows` streams before their first segment, shapes `(B, H, K, V)` and `(B, H, K)`."""
    matrix = torch.zeros(rows, heads, width, width, dtype=memory_dtype(dtype), device=device)
    return Memory(matrix, matrix.new_zeros(rows, heads, width))


class _EluPlusOne(torch.autograd.Function):
    """ELU(x) + 1. Its backward pass needs only the output y: the derivative is min(1, y).

    Automatic differentiation would make four more passes over memory, 5 % of a training step on a CPU.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        # Not `elu(x) + 1`: in float32 it is exactly 0 below about -17, by cancellation.
        return x.clamp(max=0).exp_().add_(x.clamp(min=0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        found: Tensor = grads[0] * output.clamp(max=1)
        return found


def sigma(x: Tensor) -> Tensor:
    """Return ELU(x) + 1, strictly positive."""
    y: Tensor = _EluPlusOne.apply(x)  # type: ignore[no-untyped-call]
    return y


def associate(sigma_keys: Tensor, values: Tensor) -> Memory:
    """Return what a segment adds to a memory by the linear update: sigma(K)^T V, and the sum of sigma(K).

    Args:
        sigma_keys: `(..., S, H, K)`, already through `sigma`.
        values: `(..., S, H, V)`.
    """
    return Memory(torch.einsum("...shk,...shv->...hkv", sigma_keys, values), sigma_keys.sum(dim=-3))


def read_memory(sigma_queries: Tensor, memory: Memory, present: Tensor) -> Tensor:
    """Return A_mem = sigma(Q) M / (sigma(Q) z), the memory retrieval; 0 where the memory is empty.

    Query head `h * G + g` reads the memory of key/value head `h`, as `repeat_kv` pairs them.

    Args:
        sigma_queries: `(..., S, H, G, K)`, already through `sigma`.
        memory: `(..., H, K, V)` and `(..., H, K)`.
        present: Bool, shape of the leading dimensions: whether anything was written to the memory.

    Returns:
        `(..., S, H, G, V)`.
    """
    numerator = torch.einsum("...shgk,...hkv->...shgv", sigma_queries, memory.matrix)
    denominator = torch.einsum("...shgk,...hk->...shg", sigma_queries, memory.normaliser)
    # An empty memory has the denominator 0. It is replaced before the division: replacing the quotient afterwards would
    # leave 0 * inf in the gradient.
    denominator = torch.where(present.view(*present.shape, 1, 1, 1), denominator, 1.0)
    return numerator / denominator.unsqueeze(-1)


def novelty(memory: Memory, sigma_keys: Tensor, values: Tensor, present: Tensor) -> Tensor:
    """Return the values that the delta rule writes instead of V: V - sigma(K) M / (sigma(K) z).

    An empty memory answers 0, so the first segment is written as by the linear rule.

    Args:
        memory: `(..., H, K, V)` and `(..., H, K)`.
        sigma_keys: `(..., S, H, K)`.
        values: `(..., S, H, V)`.
        present: Bool, shape of the leading dimensions: whether anything was written to the memory.
    """
    return values - read_memory(sigma_keys.unsqueeze(-2), memory, present).squeeze(-2)


def scan_linear(
    sigma_keys: Tensor,
    values: Tensor,
    carried: Memory,
    complete: Tensor,
    runs: Tensor | None,
    *,
    held: Tensor | None = None,
    writes: Tensor | None = None,
) -> tuple[Memory, Memory]:
    """Return the memory before each of N segments, and after the last, by the linear rule; computed without a loop.

    Args:
        sigma_keys: `(B, N, S, H, K)`.
        values: `(B, N, S, H, V)`.
        carried: The memory before the first segment, `(B, H, K, V)` and `(B, H, K)`.
        complete: `(B, N)` bool; segments that are not full yet are false, and are not written.
        runs: `(B, N)`, the number of document starts up to and including each segment. What was written in an earlier
            run is forgotten. None if no document starts here: then the scan is a cumulative sum.
        held: `(B, N)`, the run that the memory before each segment is of; None for that of the segment itself.
        writes: `(B, N, S)` bool, the slots to write; None for all.

    Returns:
        The memory before each segment, with dimension N after B; and the memory after the last segment.
    """
    written = associate(_only(sigma_keys, writes), values).where(complete)
    matrices = torch.cat((carried.matrix.unsqueeze(1), written.matrix), dim=1)
    normalisers = torch.cat((carried.normaliser.unsqueeze(1), written.normaliser), dim=1)
    if runs is None:
        matrices, normalisers = matrices.cumsum(dim=1), normalisers.cumsum(dim=1)
    else:
        # A cumulative sum could forget only by subtracting, which would leave rounding errors. A 0/1 matrix sums
        # exactly the visible segments, with N^2 instead of N additions.
        sources = torch.cat((torch.zeros_like(runs[:, :1]), runs), dim=1)
        targets = torch.cat((runs if held is None else held, runs[:, -1:]), dim=1)
        visible = (sources.unsqueeze(1) == targets.unsqueeze(2)).tril().to(matrices.dtype)
        matrices = torch.einsum("bts,bshkv->bthkv", visible, matrices)
        normalisers = torch.einsum("bts,bshk->bthk", visible, normalisers)
    return Memory(matrices[:, :-1], normalisers[:, :-1]), Memory(matrices[:, -1], normalisers[:, -1])


def scan_delta(
    sigma_keys: Tensor,
    values: Tensor,
    carried: Memory,
    complete: Tensor,
    runs: Tensor | None,
    present: Tensor,
    *,
    held: Tensor | None = None,
    writes: Tensor | None = None,
) -> tuple[Memory, Memory]:
    """Return what `scan_linear` returns, by the delta rule, in a loop: each segment needs the memory before it.

    Args:
        sigma_keys: `(B, N, S, H, K)`.
        values: `(B, N, S, H, V)`.
        carried: The memory before the first segment.
        complete: `(B, N)`, as for `scan_linear`.
        runs: `(B, N)` or None, as for `scan_linear`.
        present: `(B, N)` bool, whether the memory before each segment holds anything.
        held: `(B, N)` or None, as for `scan_linear`.
        writes: `(B, N, S)` or None, as for `scan_linear`.
    """
    memory, before = carried, []
    written = _only(sigma_keys, writes)
    for n in range(sigma_keys.shape[1]):
        answers, kept = present[:, n], memory
        if runs is not None:
            goes_on = runs[:, n] == (runs[:, n - 1] if n else 0)
            answers, kept = answers & goes_on, memory.where(goes_on)
        before.append(kept if held is None else memory)
        new = novelty(kept, sigma_keys[:, n], values[:, n], answers)
        memory = kept.plus(associate(written[:, n], new).where(complete[:, n]))
    return Memory(*(torch.stack(parts, dim=1) for parts in zip(*before, strict=True))), memory


def _only(sigma_keys: Tensor, writes: Tensor | None) -> Tensor:
    """Return the keys with zeros in the slots that are not written."""
    return sigma_keys if writes is None else sigma_keys * writes.view(*writes.shape, 1, 1)
