"""The contents of a bundle, read in any order: what chunks of it, or of another one, are differences from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bundler.errors import FormatError
from bundler.format.codec.buffers import BufferPool
from bundler.format.contents.bases import TAMPERED_HINT, Bases
from bundler.format.contents.spans import ChunkReader, copy_span

# A difference may lie on four others, and each may need two chunks of the one below it: 2 + 4 + 8 + 16 of its length.
MOST_BASE_READS = 40
# Small content, in a chunk with much else.
_FREE_BYTES = 1 << 30


class OwnContents:
    """See `bundler.format.contents.bases.Contents`.

    Args:
        reader: The bundle.
        spans: Content (SHA-256) -> where it begins and ends in the tar stream.
        bases: Which of them are stored as differences, and what from.
        buffers: For its chunks.
    """

    def __init__(
        self, reader: ChunkReader, spans: Mapping[str, tuple[int, int]], bases: Bases, buffers: BufferPool
    ) -> None:
        self._reader = reader
        self._spans = spans
        self._bases = bases
        self._buffers = buffers
        # How much of bases may still be decoded; None for any amount.
        self._left_bytes: int | None = None

    @contextmanager
    def limited(self, tar_bytes: int) -> Iterator[None]:
        """Refuse a bundle whose differences make more work than its content is worth, while the block runs.

        Args:
            tar_bytes: Length of its tar stream.
        """
        limit, self._left_bytes = self._left_bytes, MOST_BASE_READS * tar_bytes + _FREE_BYTES
        try:
            yield
        finally:
            self._left_bytes = limit

    def __contains__(self, sha256: str) -> bool:
        """Tell whether the bundle holds a content, and all that it is the difference from."""
        return sha256 in self._spans and all(base in self for base in self._bases.get(sha256, ()))

    def read_into(self, sha256: str, offset: int, room: memoryview) -> None:
        """Fill `room` with the bytes of a content from `offset`.

        Raises:
            FormatError: It ends before, or a chunk is damaged.
        """
        start, stop = self._spans[sha256]
        if start + offset + len(room) > stop:
            what = f"it asks for bytes {offset} to {offset + len(room)} of base {sha256}, which ends before"
            raise FormatError(what, hint=TAMPERED_HINT)
        self._count(start + offset, start + offset + len(room))
        copy_span(self._reader, start + offset, room, self._buffers)

    def _count(self, start: int, stop: int) -> None:
        """Count what is decoded for these bytes of the tar stream: whole chunks."""
        if self._left_bytes is None:
            return
        span = self._reader.chunk_span(start, stop)
        # A race between threads loses a part of the count, and no more.
        self._left_bytes -= self._reader.chunk_start(span.stop) - self._reader.chunk_start(span.start)
        if self._left_bytes < 0:
            raise FormatError(
                f"its differences ask for more than {MOST_BASE_READS} times its content to be decoded",
                hint=TAMPERED_HINT,
            )
