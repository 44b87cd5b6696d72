"""Map each token of a row to a segment and one of its S slots, by document and without padding.

The model's input is `(B, T)` with padding on any side, rows at different places of their running segment, and
documents packed one after another. The attention takes a simpler form: N segments of S slots, each filled from the left
with consecutive tokens of one document. `SegmentLayout` maps between the two; it is built once per forward pass and
used by every layer. The advantages:

* padding has no slot, so it is neither attended to nor remembered, and a padded row gives the same numbers as it would
  without padding;
* a document starts on a new segment, so inside a segment plain causal attention is always right (unless the caller has
  documents share segments: see `infini_llama.model.sharing`);
* a segment is written to the memory when it is complete, and a complete segment has no padding to mask.

The cost is two small transfers from the device per forward pass, for the sizes. If all rows are at one position,
without padding and without a new document, the host knows the sizes, and there is no transfer.

Dimension letters: B rows, T tokens given, R slots carried over from the running segment, N segments, S slots of a
segment, W = N * S (or fewer, when there is a single segment).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infini_llama.model.position import StreamPosition
from infini_llama.model.sharing import Sharing, take_shared


@dataclass(frozen=True, kw_only=True)
class SegmentLayout:
    """The map between tokens and slots.

    Attributes:
        num_segments: N.
        num_slots: Slots per segment that are computed: S, or fewer for a single incomplete segment.
        source: `(B, W)`, for each slot the index of its token in `[carried R ; given T]`. None if slot w is token w
            and no token was carried, or if there is a single segment. An empty slot may point to any token, because
            it is to the right of all real tokens of its segment.
        slot: `(B, T)`, the slot of each token; 0 for padding.
        carried: R, the number of tokens before the given ones in `source`.
        aligned: Whether in every row the last given token is in the last slot, with no padding between.
        complete: `(B, N)`, segments that are full, and so are written to the memory.
        present: `(B, N)`, whether the memory before the segment holds anything.
        runs: `(B, N)`, number of document starts up to and including each segment; None if there is none.
        last: `(B,)`, the segment that continues after this pass.
        any_complete: Whether any segment is complete, known to the host.
        any_present: Whether any segment has a memory to read, known to the host.
        after: The position after this pass.
        sharing: Which slots belong together, where documents share segments; None where they do not.
    """

    num_segments: int
    num_slots: int
    source: Tensor | None
    slot: Tensor
    carried: int
    aligned: bool
    complete: Tensor
    present: Tensor
    runs: Tensor | None
    last: Tensor
    any_complete: bool
    any_present: bool
    after: StreamPosition
    sharing: Sharing | None = None

    @classmethod
    def build(
        cls,
        segment_length: int,
        before: StreamPosition,
        tokens: int,
        *,
        mask: Tensor | None = None,
        documents: Tensor | None = None,
        share: bool = False,
    ) -> SegmentLayout:
        """Lay out `tokens` more tokens per row.

        Args:
            segment_length: S.
            before: The position of the rows before this pass.
            tokens: T.
            mask: `(B, T)`, false or 0 for padding; None for no padding.
            documents: `(B, T)`, a non-negative number per document; a change between consecutive tokens starts a new
                document. None if all tokens continue the document of `before`.
            share: Whether documents share segments.

        Raises:
            ValueError: Documents are to share segments, and these are no whole ones.
        """
        if share and documents is not None:
            return cls._build_shared(segment_length, before, documents, mask)
        if mask is None and documents is None and before.alike is not None:
            return cls._build_alike(segment_length, before, tokens, *before.alike)
        if mask is None:
            mask = torch.ones(len(before.fill), tokens, dtype=torch.bool, device=before.fill.device)
        return cls._build_by_values(segment_length, before, mask.bool(), documents)

    @classmethod
    def _build_by_values(
        cls, length: int, before: StreamPosition, real: Tensor, documents: Tensor | None
    ) -> SegmentLayout:
        """Lay out tokens by the values of `real`, which is false for padding, and of `documents`."""
        starts_document, document = _document_starts(real, documents, before)

        # A running segment continues unless the row's next token belongs to another document.
        first = torch.where(real.any(1), real.int().argmax(1), 0).unsqueeze(1)
        fill = before.fill * ~starts_document.gather(1, first).squeeze(1)

        segment, slot, used = _place_tokens(real, starts_document, fill, length)
        most, fullest, has_runs, identity, aligned = _to_host(slot, real, fill, used, starts_document)
        num_segments = max(most, 1)
        num_slots = length if num_segments > 1 else max(fullest, 1)
        width = num_segments * num_slots
        in_place = identity and before.width == 0 and real.shape[1] <= width

        count = _count_by_segment(real, segment, num_segments)
        count[:, 0] += fill
        complete = count == length
        resets = _count_by_segment(starts_document, segment, num_segments)
        runs, present, end_present = _follow_memory(count, complete, resets, before.present)

        last = (used - 1).clamp(min=0)
        end_fill = count.gather(1, last.unsqueeze(1)).squeeze(1) % length
        any_complete, any_present, end_width = torch.stack(
            (complete.any(), present.any(), end_fill.max())
        ).tolist()
        return cls(
            num_segments=num_segments,
            num_slots=num_slots,
            source=None if in_place else _sources(slot, real, fill, before.width, width),
            slot=slot,
            carried=before.width,
            aligned=bool(aligned),
            complete=complete,
            present=present,
            runs=runs if has_runs else None,
            last=last,
            any_complete=bool(any_complete),
            any_present=bool(any_present),
            after=StreamPosition(
                fill=end_fill, present=end_present, document=document, width=end_width, alike=None
            ),
        )

    @classmethod
    def _build_alike(
        cls, segment_length: int, before: StreamPosition, tokens: int, fill: int, present: bool
    ) -> SegmentLayout:
        """Lay out tokens of rows that are at one position: a token's slot is its index in the stream."""
        device, rows = before.fill.device, before.fill.shape[0]
        seen = fill + tokens
        num_segments = max(-(-seen // segment_length), 1)
        num_slots = segment_length if num_segments > 1 else max(seen, 1)
        segments = torch.arange(num_segments, device=device).expand(rows, -1)
        source = None
        if fill and num_segments > 1:
            places = torch.arange(num_segments * num_slots, device=device)
            source = torch.where(places < seen, places, 0).expand(rows, -1)
        end_fill, end_present = seen % segment_length, present or seen >= segment_length
        return cls(
            num_segments=num_segments,
            num_slots=num_slots,
            source=source,
            slot=torch.arange(fill, seen, device=device).expand(rows, -1),
            carried=fill,
            aligned=True,
            complete=segments < seen // segment_length,
            present=(segments > 0) | present,
            runs=None,
            last=segments[:, -1],
            any_complete=seen >= segment_length,
            any_present=present or num_segments > 1,
            after=StreamPosition(
                fill=torch.full((rows,), end_fill, device=device),
                present=torch.full((rows,), end_present, device=device),
                document=before.document,
                width=end_fill,
                alike=(end_fill, end_present),
            ),
        )

    @classmethod
    def _build_shared(
        cls, segment_length: int, before: StreamPosition, documents: Tensor, mask: Tensor | None
    ) -> SegmentLayout:
        """Lay out whole segments that documents share: a token's slot is its index in the row."""
        documents, after = take_shared(documents, mask, segment_length, before)
        sharing = Sharing.of(documents, segment_length, before)
        plain = cls._build_alike(segment_length, before, documents.shape[1], 0, present=True)
        present = torch.cat((before.present.unsqueeze(1), plain.present[:, 1:]), dim=1)
        return replace(plain, present=present, runs=sharing.kept, after=after, sharing=sharing)

    def fold_tokens(self, x: Tensor) -> Tensor:
        """Return the given tokens by segment: `(B, T, ...)` to `(B, N, slots, ...)`.

        For a single segment the result is `(B, 1, T, ...)`, one query per token, so that a decoding step computes one
        query and not a whole segment.
        """
        if self.num_segments == 1:
            return x.unsqueeze(1)
        return self._place(x, None if self.source is None else (self.source - self.carried).clamp(min=0))

    def fold_all(self, x: Tensor, carried: Tensor | None) -> Tensor:
        """Return carried and given tokens by segment: `(B, R, ...)` and `(B, T, ...)` to `(B, N, slots, ...)`."""
        return self._place(x if carried is None else torch.cat((carried, x), dim=1), self.source)

    def unfold_tokens(self, x: Tensor) -> Tensor:
        """Undo `fold_tokens`: `(B, N, slots, ...)` to `(B, T, ...)`; padding gets the numbers of any slot."""
        if self.num_segments == 1:
            return x.squeeze(1)
        x = x.flatten(1, 2)
        return x[:, : self.slot.shape[1]] if self.source is None else _pick(x, self.slot)

    def take_running(self, x: Tensor) -> Tensor:
        """Return each row's running segment, filled from the left: `(B, N, slots, ...)` to `(B, R, ...)`."""
        rows = torch.arange(x.shape[0], device=x.device)
        return x[rows, self.last, : self.after.width]

    def query_positions(self) -> Tensor:
        """Return the position of each folded token in its segment, `(B, T)` or `(1, S)`."""
        return self.slot if self.num_segments == 1 else self.key_positions()

    def key_positions(self) -> Tensor:
        """Return the position of each slot in its segment, `(1, slots)`."""
        return torch.arange(self.num_slots, device=self.slot.device).unsqueeze(0)

    def causal_mask(self) -> Tensor:
        """Return which slots each query may see in its segment, true for yes: `(B, B * N or 1; 1; queries; slots)`."""
        earlier = (self.key_positions().unsqueeze(1) <= self.query_positions().unsqueeze(2)).unsqueeze(1)
        return earlier if self.sharing is None else earlier & self.sharing.same_document()

    def _place(self, x: Tensor, source: Tensor | None) -> Tensor:
        """Put tokens into slots; without `source` they are already in order, and the last segment is filled up."""
        if source is not None:
            x = _pick(x, source)
        elif missing := self.num_segments * self.num_slots - x.shape[1]:
            x = torch.cat((x, x.new_zeros(x.shape[0], missing, *x.shape[2:])), dim=1)
        return x.reshape(x.shape[0], self.num_segments, self.num_slots, *x.shape[2:])


def _document_starts(real: Tensor, documents: Tensor | None, before: StreamPosition) -> tuple[Tensor, Tensor]:
    """Return `(B, T)` where a new document starts, and `(B,)` the last document of each row."""
    if documents is None:
        return torch.zeros_like(real), before.document
    index = torch.arange(real.shape[1], device=real.device)
    latest = torch.where(real, index, -1).cummax(1).values
    earlier = torch.cat((torch.full_like(latest[:, :1], -1), latest[:, :-1]), dim=1)

    def document_at(at: Tensor) -> Tensor:
        return torch.where(at < 0, before.document.unsqueeze(1), documents.gather(1, at.clamp(min=0)))

    previous = document_at(earlier)
    return real & (previous >= 0) & (documents != previous), document_at(latest[:, -1:]).squeeze(1)


def _place_tokens(
    real: Tensor, starts_document: Tensor, fill: Tensor, length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `(B, T)` the segment and `(B, T)` the slot of each token, and `(B,)` how many segments a row uses.

    Args:
        real: `(B, T)`, false for padding.
        starts_document: `(B, T)`, where a new document starts.
        fill: `(B,)`, tokens in the running segment that continues.
        length: S.
    """
    run = starts_document.cumsum(1)
    seen = real.cumsum(1) - 1
    run_start = torch.where(starts_document, seen, 0).cummax(1).values
    rank = seen - run_start + torch.where(run == 0, fill.unsqueeze(1), 0)
    starts_segment = real & (rank % length == 0)
    segment = (starts_segment.cumsum(1) - 1 + (fill > 0).unsqueeze(1)).clamp(min=0)
    return segment, torch.where(real, segment * length + rank % length, 0), starts_segment.sum(1) + (fill > 0)


def _to_host(slot: Tensor, real: Tensor, fill: Tensor, used: Tensor, starts_document: Tensor) -> list[int]:
    """Return the values of a layout that the host needs, in one transfer.

    Returns:
        The largest number of segments of a row; the largest number of slots; then as 0 or 1: whether a document starts
        anywhere, whether token i is in slot i everywhere, and whether the tokens fill the last slots of all rows.
    """
    tokens = slot.shape[1]
    index = torch.arange(tokens, device=slot.device)
    found: list[int] = torch.stack(
        (
            used.max(),
            torch.where(real, slot, -1).max().clamp(min=fill.max() - 1) + 1,
            starts_document.any(),
            ((slot == index) | ~real).all(),
            real.all() & (slot == slot.max() + 1 - tokens + index).all(),
        )
    ).tolist()
    return found


def _follow_memory(
    count: Tensor, complete: Tensor, resets: Tensor, present: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Find for each segment whether the memory before it holds anything.

    Args:
        count: `(B, N)`, tokens in each segment.
        complete: `(B, N)`, segments that are full.
        resets: `(B, N)`, documents that start in each segment.
        present: `(B,)`, whether the memory holds anything before the first segment.

    Returns:
        `(B, N)` document starts up to and including each segment; `(B, N)` whether the memory before it holds anything;
        `(B,)` whether the memory after the last segment does.
    """
    runs = resets.cumsum(1)
    opening = resets > 0
    opening[:, 0] = True
    # A segment that continues a document has a complete one before it; segments beyond the row's end are empty.
    before = (~opening & (count > 0)) | ((runs == 0) & present.unsqueeze(1))
    same_run = complete & (runs == runs[:, -1:])
    return runs, before, same_run.any(1) | ((runs[:, -1] == 0) & present)


def _count_by_segment(marks: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """Return the number of marked tokens in each segment, `(B, N)`."""
    counts = torch.zeros(marks.shape[0], num_segments, dtype=torch.long, device=marks.device)
    return counts.scatter_add(1, segment, marks.long())


def _sources(slot: Tensor, real: Tensor, fill: Tensor, carried: int, width: int) -> Tensor:
    """Return for each of `width` slots the index of its token in `[carried ; given]`, `(B, W)`."""
    rows, tokens = slot.shape
    index = torch.arange(tokens, device=slot.device) + carried
    # Padding is written to an additional column, which is then cut off.
    source = torch.zeros(rows, width + 1, dtype=torch.long, device=slot.device)
    source = source.scatter(1, torch.where(real, slot, width), index.expand(rows, tokens))[:, :width]
    position = torch.arange(width, device=slot.device)
    return torch.where(position < fill.unsqueeze(1), position, source)


def _pick(x: Tensor, index: Tensor) -> Tensor:
    """Return `x[b, index[b, i]]`, `(B, L, ...)` and `(B, I)` to `(B, I, ...)`."""
    return x[torch.arange(x.shape[0], device=x.device).unsqueeze(1), index]
