"""The streaming state of an Infini-Llama, which `generate` and truncated back-propagation pass from call to call.

For each layer it holds the memory, and the keys and values of the running segment. These are unrotated, because a
complete segment is written to the memory without positions. The size does not grow with the length of the stream.

Rule book:

* layers never change the cache: a layer is a function from state to state, and the model stores the results. So
  gradient checkpointing can run a layer twice without writing to the memory twice;
* a segment is written to the memory when its last token arrives, so a stream may be cut anywhere;
* what was written cannot be removed, so the cache cannot be cropped, and assisted decoding is refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from infini_llama.model.memory import Memory
from infini_llama.model.position import StreamPosition


class LayerState(NamedTuple):
    """The state of one layer.

    Attributes:
        memory: M and z, `(B, H, K, V)` and `(B, H, K)`, float32 or wider.
        keys: Unrotated keys of the running segment, `(B, R, H, K)`.
        values: Its values, `(B, R, H, V)`.
    """

    memory: Memory
    keys: Tensor
    values: Tensor

    def detach(self) -> LayerState:
        """Return the state without its gradient history, for truncated back-propagation."""
        return LayerState(
            Memory(*(part.detach() for part in self.memory)), self.keys.detach(), self.values.detach()
        )

    def select(self, rows: Tensor) -> LayerState:
        """Return the state of the rows with these indices."""
        return LayerState(Memory(*(part[rows] for part in self.memory)), self.keys[rows], self.values[rows])


class InfiniCacheLayer(CacheLayerMixin):
    """The state of one layer in an `InfiniCache`, with the interface that transformers expects of a cache layer."""

    is_compileable = False
    is_croppable = False
    supports_early_init = False
    is_sliding = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.state: LayerState | None = None

    @property
    def is_initialized(self) -> bool:
        """Whether the layer has seen a token."""
        return self.state is not None

    @is_initialized.setter
    def is_initialized(self, value: bool) -> None:
        """Ignore the value that the base class sets: the property is computed from `state`."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the first forward pass makes the state."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Refuse: a layer of an Infini-Llama returns its new state instead.

        Raises:
            TypeError: Always.
        """
        raise TypeError("an InfiniCache belongs to an Infini-Llama, which never calls `update`; another model did")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (length, offset) of the mask for other models; an Infini-Llama makes its own mask per segment."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of tokens held of the running segment."""
        return 0 if self.state is None else int(self.state.keys.shape[1])

    def get_max_length(self) -> int:
        """Return -1: the length of a stream has no limit."""
        return -1

    def reset(self) -> None:
        """Forget everything."""
        self.state = None

    def select(self, rows: Tensor) -> None:
        """Keep the rows with these indices, in their order."""
        if self.state is not None:
            self.state = self.state.select(rows.to(self.state.keys.device))


class InfiniCache(Cache):
    """The state of all layers, and the position of each row.

    Attributes:
        layers: One `InfiniCacheLayer` per layer.
        position: Position of the rows, shared by the layers; None before the first token.
        seen_tokens: Number of columns given so far, with padding, as `generate` counts.
    """

    layers: list[InfiniCacheLayer]  # type: ignore[assignment]

    def __init__(self, num_layers: int) -> None:
        super().__init__(layers=[InfiniCacheLayer() for _ in range(num_layers)])
        self.position: StreamPosition | None = None
        self.seen_tokens = 0

    def start(self, rows: int, device: torch.device) -> StreamPosition:
        """Return the present position, or that of `rows` new streams.

        Raises:
            ValueError: The cache has another number of rows.
        """
        if self.position is None:
            return StreamPosition.start(rows, device)
        if self.position.fill.shape[0] != rows:
            raise ValueError(f"the cache holds {self.position.fill.shape[0]} rows, the input has {rows}")
        return self.position

    def advance(self, states: list[LayerState], position: StreamPosition, tokens: int) -> None:
        """Store the states and the position after a forward pass over `tokens` columns."""
        for layer, state in zip(self.layers, states, strict=True):
            layer.state = state
        self.position = position
        self.seen_tokens += tokens

    def detach(self) -> None:
        """Cut the gradient here; the values stay."""
        for layer in self.layers:
            if layer.state is not None:
                layer.state = layer.state.detach()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of columns given so far, which `generate` does not give again."""
        return self.seen_tokens

    def reset(self) -> None:
        """Forget everything."""
        super().reset()  # type: ignore[no-untyped-call]
        self.position, self.seen_tokens = None, 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder the rows for beam search."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows with these indices, in their order."""
        if self.position is None:
            return
        for layer in self.layers:
            layer.select(indices)
        rows, position = indices.to(self.position.fill.device), self.position
        self.position = StreamPosition(
            fill=position.fill[rows],
            present=position.present[rows],
            document=position.document[rows],
            # Do not recompute the width from the rows that are left: the layers still hold this many slots.
            width=position.width,
            alike=position.alike,
        )

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row `repeats` times."""
        if self.position is not None:
            rows = torch.arange(self.position.fill.shape[0], device=self.position.fill.device)
            self.batch_select_indices(rows.repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse to forget tokens.

        Raises:
            ValueError: `tokens_to_remove` is not 0.
        """
        if tokens_to_remove:
            raise ValueError(
                "an InfiniCache cannot be cropped: completed segments are summed up in the memory. "
                "Keep a copy of the cache, or start again from an empty one."
            )
