"""Spread the segments of each row over ranks: context parallelism.

Local attention never leaves a segment, so the memory is all that ranks exchange. What a rank's segments make of the
memory that comes to them is an affine map, M -> A M + B, by both rules:

* linear: A is 1, or 0 where a document starts, and B is the sum of what was written since;
* delta: V - sigma(K) M / (sigma(K) z) is affine in M, since z is a sum that does not depend on M; A is a matrix (K, K).
  It is what the same update makes of the unit matrix, with values of 0, so the scan computes it beside B.

So in each layer the ranks gather what all have written, and each composes what comes from those before it: an exclusive
scan. That is one exchange of M and z for each layer, whatever the length of the row, and one of their gradients; the
delta rule exchanges z first, because A depends on it, and then A and B.

Rule book:

* rows are cut between segments, and each rank knows the documents of whole rows, so only the memory is exchanged;
* labels are shifted before a row is cut: a rank's last token predicts the first of the next rank;
* all ranks of a group run the same layers in the same order, also to recompute them, so their exchanges meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from infini_llama.errors import ConfigError
from infini_llama.model.memory import Memory, scan_delta, scan_linear
from infini_llama.model.position import StreamPosition
from infini_llama.model.segments import SegmentLayout

_IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class ContextGroup:
    """The ranks that share rows.

    Attributes:
        group: Their process group.
        rank: This rank's place in the rows, from 0.
        size: How many they are.
    """

    group: Any
    rank: int
    size: int

    def gather(self, x: Tensor) -> Tensor:
        """Return the arrays of all ranks, `(size, ...)`; gradients flow back to each rank's own."""
        gathered: Tensor = _Gather.apply(x, self)  # type: ignore[no-untyped-call]
        return gathered


@dataclass(frozen=True, kw_only=True)
class RowShare:
    """What a rank must know of the part of its rows that other ranks hold.

    Attributes:
        ranks: The ranks that share the rows.
        before: The position of the rows where this rank's segments begin.
        reaching: `(size, B)` bool, whether what a rank has written last is still there when this rank begins: that rank
            is before this one, and no document starts between.
    """

    ranks: ContextGroup
    before: StreamPosition
    reaching: Tensor

    def scan_linear(
        self, keys: Tensor, values: Tensor, carried: Memory, layout: SegmentLayout, **held: Any
    ) -> Memory:
        """Return the memory before each of this rank's segments; arguments as for `memory.scan_linear`.

        Args:
            keys: sigma(K), `(B, N, S, H, K)`.
            values: `(B, N, S, H, V)`.
            carried: An empty memory.
            layout: Where tokens go.
            **held: As for `memory.scan_linear`.
        """
        before, after = scan_linear(keys, values, carried, layout.complete, layout.runs, **held)
        # M and z in one exchange: z is one more column.
        joined = torch.cat((after.matrix, after.normaliser.unsqueeze(-1)), dim=-1)
        comes = self._sum_before(joined)
        memory = Memory(comes[..., :-1], comes[..., -1])
        return before.plus(Memory(*(part.unsqueeze(1) for part in memory)).where(_not_forgotten(layout, **held)))

    def scan_delta(
        self, keys: Tensor, values: Tensor, carried: Memory, layout: SegmentLayout, **held: Any
    ) -> Memory:
        """Return what `scan_linear` returns, by the delta rule."""
        width, runs = values.shape[-1], layout.runs
        no_values = Memory(carried.matrix[..., :0], carried.normaliser)
        _, sums = scan_linear(keys, values[..., :0], no_values, layout.complete, runs, **held)
        # B in the first columns, A in the rest.
        unit = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device).expand(
            *carried.matrix.shape[:2], -1, -1
        )
        start = Memory(torch.cat((carried.matrix, unit), dim=-1), self._sum_before(sums.normaliser))
        widened = nn.functional.pad(values, (0, keys.shape[-1]))
        before, after = scan_delta(keys, widened, start, layout.complete, runs, layout.present, **held)
        comes = self._compose(after.matrix[..., width:], after.matrix[..., :width])
        factors, written = before.matrix[..., width:], before.matrix[..., :width]
        return Memory(written + factors @ comes.unsqueeze(1), before.normaliser)

    def _sum_before(self, written: Tensor) -> Tensor:
        """Return the sum of what the ranks before this one have written, unless it was forgotten, `(B, ...)`."""
        total: Tensor = torch.einsum("rb,rb...->b...", self.reaching.to(written.dtype), self.ranks.gather(written))
        return total

    def _compose(self, factor: Tensor, written: Tensor) -> Tensor:
        """Return M where this rank begins, if each makes factor @ M + written of it, and the first begins with 0.

        Args:
            factor: `(B, H, K, K)`.
            written: `(B, H, K, V)`.
        """
        width = written.shape[-1]
        parts = self.ranks.gather(torch.cat((written, factor), dim=-1))
        # Parts of later ranks count 0 times: every rank then exchanges gradients.
        memory = parts[..., :width].sum(0) * 0
        for part in parts[: self.ranks.rank]:
            memory = part[..., width:] @ memory + part[..., :width]
        return memory


class _Gather(torch.autograd.Function):
    """The arrays of all ranks; the gradient of a rank's own is the sum of those that all ranks have for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: ContextGroup) -> Tensor:
        ctx.ranks = ranks
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(ranks.size)]
        distributed.all_gather(parts, x.contiguous(), group=ranks.group)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        summed = grads[0].contiguous()
        distributed.all_reduce(summed, group=ctx.ranks.group)
        return summed[ctx.ranks.rank], None


def _not_forgotten(layout: SegmentLayout, *, held: Tensor | None = None, **_: Any) -> Tensor:
    """Return before which segments the memory is still that of where the rows began here, `(B, N)`."""
    runs = layout.runs if held is None else held
    return torch.ones_like(layout.complete) if runs is None else runs == 0


def find_context(size: int, world_size: int) -> ContextGroup | None:
    """Return the group of `size` consecutive ranks that this one is in; None for a size of 1. All ranks must call this.

    Args:
        size: How many ranks share a row.
        world_size: How many ranks there are.

    Raises:
        ConfigError: The ranks do not come out even.
    """
    if world_size % size:
        raise ConfigError(
            f"training.context_parallel: expected a number of processes that {size} divides, found {world_size}",
            hint=f"start {size} processes, or a multiple, by torchrun",
        )
    if size == 1:
        return None
    group, _ = distributed.new_subgroups(size)
    return ContextGroup(group=group, rank=distributed.get_rank(group), size=size)


def take_share(
    batch: dict[str, Tensor], ranks: ContextGroup, segment_length: int, *, share_segments: bool
) -> dict[str, Tensor]:
    """Return a rank's part of whole rows, with what `read_share` needs.

    Args:
        batch: `input_ids`, `attention_mask`, `document_ids` and `labels` of whole rows, each `(B, T)`.
        ranks: The ranks that share the rows.
        segment_length: S; T must be a multiple of S times the number of ranks.
        share_segments: Whether documents share segments.

    Raises:
        ValueError: Rows cannot be cut here, because they have another length, or because a document begins in the
            middle of a segment of tokens and goes on beyond a cut.
    """
    rows, tokens = batch["input_ids"].shape
    length = tokens // ranks.size
    if tokens % (segment_length * ranks.size):
        raise ValueError(
            f"expected rows of a multiple of {ranks.size} x {segment_length} tokens, found {tokens}: rows are cut "
            "between segments"
        )
    before, keeps = StreamPosition.start(rows, batch["input_ids"].device), []
    for number in range(ranks.rank):
        part = {name: x[:, number * length : (number + 1) * length] for name, x in batch.items()}
        layout = _lay_out(part, before, segment_length, share_segments)
        keeps.append(torch.ones(rows, dtype=torch.bool) if layout.runs is None else layout.runs[:, -1] == 0)
        following = {name: x[:, (number + 1) * length :] for name, x in batch.items()}
        before = _begin_segment(layout.after, following)
    reaching = torch.zeros(ranks.size, rows, dtype=torch.bool)
    reaches = torch.ones(rows, dtype=torch.bool)
    for number in reversed(range(ranks.rank)):
        reaching[number] = reaches
        reaches = reaches & keeps[number]
    mine = slice(ranks.rank * length, (ranks.rank + 1) * length)
    # Labels, too: what counts them must find each once.
    shifted = nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=_IGNORED)
    return {
        **{name: x[:, mine].contiguous() for name, x in batch.items()},
        "shift_labels": shifted[:, mine].contiguous(),
        "share_present": before.present,
        "share_document": before.document,
        "share_reaching": reaching.T.contiguous(),
    }


def read_share(batch: dict[str, Any], ranks: ContextGroup) -> dict[str, Any]:
    """Return the model's arguments for a batch of `take_share`."""
    batch = dict(batch)
    present, document = batch.pop("share_present"), batch.pop("share_document")
    reaching = batch.pop("share_reaching").T
    start = StreamPosition.start(len(present), present.device)
    before = replace(start, present=present, document=document, alike=None)
    return {**batch, "row_share": RowShare(ranks=ranks, before=before, reaching=reaching)}


def cut_rows(
    collate: Callable[[Any], dict[str, Tensor]], ranks: ContextGroup, segment_length: int, *, share_segments: bool
) -> Callable[[Any], dict[str, Tensor]]:
    """Return a collator that gives a rank its part of the rows that `collate` makes."""
    return lambda rows: take_share(collate(rows), ranks, segment_length, share_segments=share_segments)


def _lay_out(part: dict[str, Tensor], before: StreamPosition, length: int, share: bool) -> SegmentLayout:
    return SegmentLayout.build(
        length,
        before,
        part["input_ids"].shape[1],
        mask=part["attention_mask"],
        documents=part["document_ids"],
        share=share,
    )


def _begin_segment(after: StreamPosition, following: dict[str, Tensor]) -> StreamPosition:
    """Return a position with no running segment.

    Raises:
        ValueError: A running segment goes on.
    """
    real = following["attention_mask"].bool()
    first = following["document_ids"].gather(1, real.int().argmax(1, keepdim=True)).squeeze(1)
    if bool(((after.fill > 0) & real.any(1) & (first == after.document)).any()):
        raise ValueError(
            "expected rows whose documents begin with a segment, found one that goes on inside a segment"
        )
    return replace(after, fill=torch.zeros_like(after.fill), width=0, alike=None)
