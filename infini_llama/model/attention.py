"""Infini-attention: Llama's attention inside a segment, and a compressive memory of the segments before.

    A_dot = softmax(Q K^T / sqrt(d)) V   inside the segment, causal, with RoPE
    A_mem = sigma(Q) M / (sigma(Q) z)    from all earlier segments of the document, without RoPE
    A     = g A_mem + (1 - g) A_dot      with g = sigmoid(gate), one per head; g = 0 while the memory is empty

What M and z are, and how they are written, is in `infini_llama.model.memory`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, eager_attention_forward
from transformers.utils.generic import maybe_autocast

from infini_llama.model.cache import LayerState
from infini_llama.model.configuration import InfiniLlamaConfig
from infini_llama.model.gate import MemoryGate
from infini_llama.model.memory import (
    Memory,
    empty_memory,
    memory_dtype,
    read_memory,
    scan_delta,
    scan_linear,
    sigma,
)
from infini_llama.model.rope import Rotation
from infini_llama.model.segments import SegmentLayout


class InfiniLlamaAttention(LlamaAttention):
    """Llama's attention inside a segment, mixed per head with a memory of the segments before."""

    def __init__(self, config: InfiniLlamaConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.gate = MemoryGate(config.num_attention_heads, config.gate_init)
        self.register_load_state_dict_pre_hook(_rename_old_gate)  # type: ignore[no-untyped-call]

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        layout: SegmentLayout,
        rotation: Rotation,
        local_mask: Tensor | None,
        state: LayerState | None,
        keep_state: bool,
        want_weights: bool,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, LayerState | None]:
        """Attend to the segment and to the memory.

        Args:
            hidden_states: `(B, T, hidden_size)`.
            layout: Where the tokens go.
            rotation: RoPE by position in the segment.
            local_mask: For the local attention, as its implementation wants it; None for plainly causal.
            state: What the layer carries from earlier calls, or None at the start.
            keep_state: Whether to return what it carries on.
            want_weights: Whether to return the local attention's weights, by row: tokens times tokens.
            **kwargs: For the local attention's implementation.

        Returns:
            The output `(B, T, hidden_size)`; the local attention's weights `(B, heads, T, R + T)`, if they are wanted
            and its implementation gives them; the new state, or None if it is not wanted.
        """
        tokens = hidden_states.shape[:2]
        queries = layout.fold_tokens(self.q_proj(hidden_states).view(*tokens, -1, self.head_dim))
        keys = self.k_proj(hidden_states).view(*tokens, -1, self.head_dim)
        values = self.v_proj(hidden_states).view(*tokens, -1, self.head_dim)
        keys = layout.fold_all(keys, state.keys if state else None)
        values = layout.fold_all(values, state.values if state else None)

        attended, weights = self._attend_locally(queries, keys, values, rotation, local_mask, **kwargs)
        recalled, memory = self._remember(queries, keys, values, layout, state.memory if state else None)
        if recalled is not None:
            attended = self.gate(attended, recalled, layout.present)

        weights = weights_by_row(weights, layout) if want_weights and weights is not None else None
        output = self.o_proj(layout.unfold_tokens(attended).reshape(*tokens, -1))
        if not keep_state:
            return output, weights, None
        return output, weights, LayerState(memory, layout.take_running(keys), layout.take_running(values))

    def _attend_locally(
        self, queries: Tensor, keys: Tensor, values: Tensor, rotation: Rotation, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return A_dot, `(B, N, queries, heads, width)`, with each segment as a row of its own."""
        folded = queries.shape[:2]
        attention: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attended, weights = attention(
            self,
            rotation.queries(queries.flatten(0, 1).transpose(1, 2)),
            rotation.keys(keys.flatten(0, 1).transpose(1, 2)),
            values.flatten(0, 1).transpose(1, 2),
            mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return attended.unflatten(0, folded), weights

    def _remember(
        self, queries: Tensor, keys: Tensor, values: Tensor, layout: SegmentLayout, carried: Memory | None
    ) -> tuple[Tensor | None, Memory]:
        """Return A_mem, `(B, N, queries, heads, width)`, or None with nothing to recall; and the memory after."""
        dtype = memory_dtype(keys.dtype)
        with maybe_autocast(keys.device.type, enabled=False):
            if carried is None:
                rows, heads, width = keys.shape[0], keys.shape[-2], keys.shape[-1]
                carried = empty_memory(rows, heads, width, dtype=dtype, device=keys.device)
            before, after = self._scan(keys.to(dtype), values.to(dtype), layout, carried)
            # With gradients the empty memory is read too: every gate then takes part in every step, which
            # data-parallel training insists on.
            if not layout.any_present and not torch.is_grad_enabled():
                return None, after
            grouped = sigma(queries.to(dtype)).unflatten(-2, (-1, self.num_key_value_groups))
            return read_memory(grouped, before, layout.present).flatten(-3, -2), after

    def _scan(self, keys: Tensor, values: Tensor, layout: SegmentLayout, carried: Memory) -> tuple[Memory, Memory]:
        """Return the memory before each segment, with N after B, and after the last one."""
        if not layout.any_complete and layout.runs is None:
            return Memory(
                *(part.unsqueeze(1).expand(-1, layout.num_segments, *part.shape[1:]) for part in carried)
            ), carried
        sigma_keys = sigma(keys)
        if self.config.memory_update == "delta":
            return scan_delta(sigma_keys, values, carried, layout.complete, layout.runs, layout.present)
        return scan_linear(sigma_keys, values, carried, layout.complete, layout.runs)


def _rename_old_gate(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give the gate of a state dict of 0.1.0 its name of today, for who loads one without `from_pretrained`."""
    if f"{prefix}gate" in state_dict:
        state_dict[f"{prefix}gate.bias"] = state_dict.pop(f"{prefix}gate")


def weights_by_row(weights: Tensor, layout: SegmentLayout) -> Tensor:
    """Return attention weights by row, with 0 between tokens of different segments.

    Args:
        weights: `(B * N, heads, queries, slots)`, queries as `fold_tokens` places them, slots as `fold_all` does.
        layout: Which places them.

    Returns:
        `(B, heads, T, R + T)`: what each token given sees of the carried ones and of the given ones.
    """
    rows, tokens = layout.slot.shape
    if layout.num_segments > 1:
        # A row's segments as blocks on a diagonal, of which each token's line is picked.
        segments = torch.arange(layout.num_segments, device=weights.device)
        blocks = weights.unflatten(0, (rows, layout.num_segments))
        diagonal = blocks.new_zeros(*blocks.shape[:4], layout.num_segments, layout.num_slots)
        diagonal[:, segments, :, :, segments] = blocks.transpose(0, 1)
        lines = diagonal.flatten(4).transpose(2, 3).flatten(1, 2)
        row = torch.arange(rows, device=weights.device).unsqueeze(1)
        weights = lines[row, layout.slot].transpose(1, 2)
    if layout.source is None:
        return weights[..., : layout.carried + tokens]
    # An empty slot points at any token, and adds the 0 that it weighs.
    source = layout.source.view(rows, 1, 1, -1).expand_as(weights)
    return weights.new_zeros(*weights.shape[:3], layout.carried + tokens).scatter_add(3, source, weights)


def local_mask(layout: SegmentLayout, tokens: int, implementation: str, dtype: torch.dtype) -> Tensor | None:
    """Return the causal mask of the local attention as its implementation takes it, None where it needs none."""
    square = layout.num_segments > 1 or (layout.aligned and tokens == layout.num_slots)
    if implementation.startswith("flash"):
        if not (square or layout.aligned):
            raise ValueError("flash attention takes no mask: rows must be equally far in their segment; use sdpa")
        return None
    if layout.aligned and tokens == 1 and layout.num_segments == 1:
        return None
    if implementation == "sdpa" and square:
        return None
    allowed = layout.causal_mask()
    if implementation == "sdpa":
        return allowed
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
