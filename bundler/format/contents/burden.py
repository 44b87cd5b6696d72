"""What a reader has to decode, counted while a bundle is written: so that none is written that would be refused.

Exactly as a reader counts it (`bundler.format.codec.expansion`, `bundler.format.contents.own`), chunk by chunk: what
was written up to any chunk may be all that a reader has of a stream.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from bundler.format.codec.codecs import is_difference
from bundler.format.codec.expansion import most_bytes, work_bytes
from bundler.format.contents.bases import BaseSpan
from bundler.format.index import CHUNK_HEADER_BYTES, PREAMBLE, ChunkRecord


class Burden:
    """Counts the chunks of one bundle.

    Args:
        find: Returns where a content (SHA-256) begins in the tar stream; None for one that is not in it.
    """

    def __init__(self, find: Callable[[str], int | None]) -> None:
        self._find = find
        self._stored_bytes = len(PREAMBLE)
        self._work = 0
        # Where each chunk begins in the tar stream, and what reading it as a base takes.
        self._starts = [0]
        self._costs: list[int] = []

    def admits(self, record: ChunkRecord, base: BaseSpan | None) -> bool:
        """Tell whether a reader takes this chunk as the next one.

        Args:
            record: The chunk.
            base: What it may be a difference from.
        """
        limit = most_bytes(self._stored_bytes + CHUNK_HEADER_BYTES + record.stored_bytes)
        work = self._work + self._measure(record, base)
        return self._starts[-1] + record.raw_bytes <= limit and work <= limit

    def add(self, record: ChunkRecord, base: BaseSpan | None) -> None:
        """Count a chunk that is written."""
        cost = self._measure(record, base)
        self._work += cost
        self._costs.append(cost + work_bytes(record.raw_bytes, record.stored_bytes))
        self._starts.append(self._starts[-1] + record.raw_bytes)
        self._stored_bytes += CHUNK_HEADER_BYTES + record.stored_bytes

    def _measure(self, record: ChunkRecord, base: BaseSpan | None) -> int:
        """Return what is decoded of this bundle for a chunk."""
        if base is None or not is_difference(record.codec) or (begin := self._find(base.sha256)) is None:
            return 0
        start = begin + base.place.offset
        first = bisect_right(self._starts, start) - 1
        last = bisect_right(self._starts, start + record.raw_bytes - 1)
        return sum(self._costs[first:last])
