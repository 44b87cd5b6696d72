"""Infini-attention: Llama's attention inside a segment, and a compressive memory of the earlier segments.

    A_dot = softmax(Q K^T / sqrt(d)) V   inside the segment, causal, with RoPE
    A_mem = sigma(Q) M / (sigma(Q) z)    from all earlier segments of the document, without RoPE
    A     = g A_mem + (1 - g) A_dot      with g = sigmoid(gate), one per head; g = 0 while the memory is empty

`infini_llama.model.memory` defines M and z, and how they are updated.
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
    """Llama's attention inside a segment, mixed per head with a memory of the earlier segments."""

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
        row_share: Any = None,
        write_spread: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, LayerState | None]:
        """Attend to the segment and to the memory.

        Args:
            hidden_states: `(B, T, hidden_size)`.
            layout: Which segment and slot each token is in.
            rotation: RoPE by position in the segment.
            local_mask: Mask in the form that the local attention's implementation takes; None for causal.
            state: The layer's state from earlier calls; None at the start.
            keep_state: Whether to return the new state.
            want_weights: Whether to return the local attention's weights, by row.
            row_share: What to know of other ranks that hold parts of these rows; None if there are none.
            write_spread: What stands for the configuration's `memory_write_spread`, `()`; None for that itself.
            **kwargs: Passed to the local attention's implementation.

        Returns:
            The output `(B, T, hidden_size)`; the local attention's weights `(B, heads, T, R + T)`, or None if they are
            not wanted or its implementation has none; the new state, or None if it is not wanted.
        """
        tokens = hidden_states.shape[:2]
        queries = layout.fold_tokens(self.q_proj(hidden_states).view(*tokens, -1, self.head_dim))
        keys = self.k_proj(hidden_states).view(*tokens, -1, self.head_dim)
        values = self.v_proj(hidden_states).view(*tokens, -1, self.head_dim)
        keys = layout.fold_all(keys, state.keys if state else None)
        values = layout.fold_all(values, state.values if state else None)

        attended, weights = self._attend_locally(queries, keys, values, rotation, local_mask, **kwargs)
        carried = state.memory if state else None
        recalled, memory = self._remember(queries, keys, values, layout, carried, row_share, write_spread)
        if recalled is not None:
            reads = layout.present if layout.sharing is None else layout.sharing.reads(layout.present)
            attended = self.gate(attended, recalled, reads)

        weights = weights_by_row(weights, layout) if want_weights and weights is not None else None
        output = self.o_proj(layout.unfold_tokens(attended).reshape(*tokens, -1))
        if not keep_state:
            return output, weights, None
        return output, weights, LayerState(memory, layout.take_running(keys), layout.take_running(values))

    def _attend_locally(
        self, queries: Tensor, keys: Tensor, values: Tensor, rotation: Rotation, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return A_dot, `(B, N, queries, heads, width)`; each segment is computed as a separate row."""
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
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        layout: SegmentLayout,
        carried: Memory | None,
        row_share: Any,
        write_spread: Tensor | None,
    ) -> tuple[Tensor | None, Memory]:
        """Return A_mem, `(B, N, queries, heads, width)`, or None if all memories are empty; and the new memory."""
        dtype = memory_dtype(keys.dtype)
        with maybe_autocast(keys.device.type, enabled=False):
            if carried is None:
                rows, heads, width = keys.shape[0], keys.shape[-2], keys.shape[-1]
                carried = empty_memory(rows, heads, width, dtype=dtype, device=keys.device)
            before, after = self._scan(keys.to(dtype), values.to(dtype), layout, carried, row_share, write_spread)
            # With gradients an empty memory is read too, so that every gate is used in every step, as DDP requires.
            if not layout.any_present and not torch.is_grad_enabled():
                return None, after
            grouped = sigma(queries.to(dtype)).unflatten(-2, (-1, self.num_key_value_groups))
            return read_memory(grouped, before, layout.present).flatten(-3, -2), after

    def _scan(
        self,
        keys: Tensor,
        values: Tensor,
        layout: SegmentLayout,
        carried: Memory,
        row_share: Any,
        write_spread: Tensor | None,
    ) -> tuple[Memory, Memory]:
        """Return the memory before each segment, with dimension N after B; and the memory after the last segment.

        Of a share of rows the second is what was carried, since no stream goes on from it.
        """
        if not layout.any_complete and layout.runs is None and row_share is None:
            return Memory(
                *(part.unsqueeze(1).expand(-1, layout.num_segments, *part.shape[1:]) for part in carried)
            ), carried
        sigma_keys = self._vary(sigma(keys), write_spread)
        writes, held = None, layout.runs
        if layout.sharing is not None:
            writes, held = layout.sharing.writes(), layout.sharing.held
        if row_share is not None:
            scan = row_share.scan_delta if self.config.memory_update == "delta" else row_share.scan_linear
            return scan(sigma_keys, values, carried, layout, held=held, writes=writes), carried
        if self.config.memory_update == "delta":
            return scan_delta(
                sigma_keys, values, carried, layout.complete, layout.runs, layout.present, held=held, writes=writes
            )
        return scan_linear(sigma_keys, values, carried, layout.complete, layout.runs, held=held, writes=writes)

    def _vary(self, sigma_keys: Tensor, write_spread: Tensor | None) -> Tensor:
        """In training multiply sigma(K) of each segment, `(B, N, S, H, K)`, by e^u, u drawn from -spread to spread.

        A segment's sums are then e^u times as large, in M and in z. What the delta rule reads by these keys is not.
        """
        spread = self.config.memory_write_spread
        if not self.training or (write_spread is None and not spread):
            return sigma_keys
        drawn = sigma_keys.new_empty(*sigma_keys.shape[:2], 1, 1, 1)
        if write_spread is None:
            drawn.uniform_(-spread, spread)
        else:
            # `uniform_` takes no tensors, and a compiled model is compiled again for each new number. `lerp` gives what
            # `uniform_` would; on a CPU bit for bit.
            end = write_spread.to(drawn.dtype)
            drawn = torch.lerp(-end, end, drawn.uniform_())
        return sigma_keys * drawn.exp_()


def _rename_old_gate(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Rename the gate in a state dict of version 0.1.0, for a program that loads one without `from_pretrained`."""
    if f"{prefix}gate" in state_dict:
        state_dict[f"{prefix}gate.bias"] = state_dict.pop(f"{prefix}gate")


def weights_by_row(weights: Tensor, layout: SegmentLayout) -> Tensor:
    """Return attention weights by row, with 0 between tokens of different segments.

    Args:
        weights: `(B * N, heads, queries, slots)`; queries in the order of `fold_tokens`, slots in that of `fold_all`.
        layout: The layout that placed them.

    Returns:
        `(B, heads, T, R + T)`: the weight of each carried and each given token for each given token.
    """
    rows, tokens = layout.slot.shape
    if layout.num_segments > 1:
        # Put a row's segments on the diagonal of a matrix, then pick the line of each token.
        segments = torch.arange(layout.num_segments, device=weights.device)
        blocks = weights.unflatten(0, (rows, layout.num_segments))
        diagonal = blocks.new_zeros(*blocks.shape[:4], layout.num_segments, layout.num_slots)
        diagonal[:, segments, :, :, segments] = blocks.transpose(0, 1)
        lines = diagonal.flatten(4).transpose(2, 3).flatten(1, 2)
        row = torch.arange(rows, device=weights.device).unsqueeze(1)
        weights = lines[row, layout.slot].transpose(1, 2)
    if layout.source is None:
        return weights[..., : layout.carried + tokens]
    # An empty slot may point to any token, because it adds a weight of 0.
    source = layout.source.view(rows, 1, 1, -1).expand_as(weights)
    return weights.new_zeros(*weights.shape[:3], layout.carried + tokens).scatter_add(3, source, weights)


def local_mask(layout: SegmentLayout, tokens: int, implementation: str, dtype: torch.dtype) -> Tensor | None:
    """Return the causal mask in the form that the local attention's implementation takes; None if it needs none.

    Raises:
        ValueError: Flash attention would need a mask.
    """
    square = layout.num_segments > 1 or (layout.aligned and tokens == layout.num_slots)
    if layout.sharing is not None:
        if implementation.startswith("flash"):
            raise ValueError("flash attention takes no mask, and documents that share segments need one; use sdpa")
        square = False
    if implementation.startswith("flash"):
        if not (square or layout.aligned):
            raise ValueError(
                "flash attention takes no mask: rows must be at one position in their segments; use sdpa"
            )
        return None
    if layout.aligned and tokens == 1 and layout.num_segments == 1:
        return None
    if implementation == "sdpa" and square:
        return None
    allowed = layout.causal_mask()
    if implementation == "sdpa":
        return allowed
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
