"""What decoding a difference takes beyond its own chunk: its base, and what that is a difference from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from bundler.format.codec.codecs import is_difference
from bundler.format.contents.bases import MAX_DEPTH, Bases, Differences
from bundler.format.index import ChunkRecord


class BaseCosts:
    """Says of each chunk how much memory its base takes, and what that is worth.

    Chunks of weights store much of what they decode to, and are decoded on all cores. A base that stores next to
    nothing, as no weights do, is counted (`bundler.format.codec.buffers.Budget`).

    Args:
        chunks: All chunks.
        starts: Their offsets in the tar stream.
        differences: What they may be differences from.
        bases: Contents that are differences -> what from.
        spans: Offsets in the tar stream where a content begins and ends.
    """

    def __init__(
        self,
        chunks: Sequence[ChunkRecord],
        starts: Sequence[int],
        differences: Differences,
        bases: Bases,
        spans: Mapping[str, tuple[int, int]],
    ) -> None:
        self._chunks = chunks
        self._starts = starts
        self._differences = differences
        self._bases = bases
        self._spans = spans
        self._known: dict[tuple[str, ...], tuple[int, float, int]] = {}

    def of(self, number: int) -> tuple[int, int]:
        """Return for a chunk the bytes of memory that its base takes, and how many are stored for that."""
        chunk = self._chunks[number]
        if not is_difference(chunk.codec):
            return 0, 0
        bases = self._differences.bases_at(self._starts[number], self._starts[number] + chunk.raw_bytes)
        if bases not in self._known:
            self._known[bases] = self._measure(bases)
        depth, share, largest = self._known[bases]
        # At each step a base, the chunk that it is decoded from, and that chunk's planes.
        return 3 * depth * chunk.raw_bytes + 2 * largest, int(share * chunk.raw_bytes)

    def _measure(self, bases: tuple[str, ...]) -> tuple[int, float, int]:
        """Return how many differences there may be, the least share that a base stores, and its largest chunk."""
        share, largest = 1.0, 0
        for base in bases:
            if base in self._spans:
                start, stop = self._spans[base]
                first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, stop - 1)
                chunks = self._chunks[first:last]
                share = min(share, sum(each.stored_bytes for each in chunks) / (stop - start))
                largest = max(largest, *(each.raw_bytes for each in chunks))
        return MAX_DEPTH if any(base in self._bases for base in bases) else 1, share, largest
