"""RoPE of queries and keys by position in a segment (RoFormer, Su et al., 2021, eq. 34), in Llama's layout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from infini_llama.model.segments import SegmentLayout


class Rotation:
    """RoPE of one forward pass: cosines and sines by position in the segment, for queries and keys."""

    def __init__(self, rotary: LlamaRotaryEmbedding, layout: SegmentLayout, like: Tensor) -> None:
        self._keys = rotary(like, position_ids=layout.key_positions())
        self._queries = (
            self._keys if layout.num_segments > 1 else rotary(like, position_ids=layout.query_positions())
        )

    def queries(self, x: Tensor) -> Tensor:
        """Rotate `(rows, heads, queries, width)`."""
        return rotate(x, *self._queries)

    def keys(self, x: Tensor) -> Tensor:
        """Rotate `(rows, heads, slots, width)`."""
        return rotate(x, *self._keys)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `(rows, heads, tokens, width)` with RoPE."""
    turned: Tensor = _Rotate.apply(x, cos.unsqueeze(1), sin.unsqueeze(1))  # type: ignore[no-untyped-call]
    return turned


class _Rotate(torch.autograd.Function):
    """x cos + R x sin, without storing R x, which is x with its halves swapped and the first one negated.

    In every dtype the result is bit for bit that of transformers' expression: products are rounded before they are
    added, so `addcmul_` cannot be used. In the backward pass R^T = -R; cos and sin get no gradient.
    """

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        rotated = x * cos
        rotated[..., :half].sub_(x[..., half:] * sin[..., :half])
        rotated[..., half:].add_(x[..., :half] * sin[..., half:])
        return rotated

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        _, cos, sin = inputs
        ctx.save_for_backward(cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,), (cos, sin) = grads, ctx.saved_tensors
        half = grad.shape[-1] // 2
        back = grad * cos
        back[..., :half].add_(grad[..., half:] * sin[..., half:])
        back[..., half:].sub_(grad[..., :half] * sin[..., :half])
        return back, None, None
