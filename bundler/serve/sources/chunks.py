"""Decoded chunks of a bundle that all downloads share.

A node that starts a job often asks for the same files as a hundred others, at about the same time. What one download
has had decoded is there for the next, until others were decoded since; and nothing is decoded by two at once. The
memory of a chunk is used for another one afterwards: new pages would cost more than what is written to them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.codecs import Buffer
from bundler.format.codec.expansion import Work
from bundler.format.contents.spans import ChunkReader

# Besides those that are being read. Downloads of one file keep close together: the first waits while a chunk is
# decoded, the others find it there. More chunks would push one another out of the processor's caches.
MOST_CHUNKS = 4
# Of long chunks fewer, though always the last: it is read in many pieces. Ours are of 4 MiB, others' may be of 64.
MOST_BYTES = 96 << 20


class SharedChunks:
    """Reads a tar stream through the chunks that were decoded last. All methods may be called from several threads.

    Args:
        reader: The bundle.
        pooled_bytes: Length of the buffers that are used again; a longer chunk has memory of its own.
        most: How many chunks are kept.
        most_bytes: How much they may take; the last one is kept whatever its length.
    """

    def __init__(
        self, reader: ChunkReader, pooled_bytes: int, *, most: int = MOST_CHUNKS, most_bytes: int = MOST_BYTES
    ) -> None:
        self._reader = reader
        self._most, self._most_bytes = most, most_bytes
        self._buffers = BufferPool(pooled_bytes)
        self._mutex = threading.Lock()
        # The one that was used last stands at the end.
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()

    def read(self, start: int, size_bytes: int, work: Work | None = None) -> bytes:
        """Return `size_bytes` of the tar stream from offset `start`, which reaches that far.

        Args:
            start: First byte.
            size_bytes: How many.
            work: What the download that asks may have decoded (`new_work`).

        Raises:
            FormatError: A chunk is damaged.
        """
        parts = [
            self._read_part(number, start, size_bytes, work)
            for number in self._reader.chunk_span(start, start + size_bytes)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def new_work(self) -> Work:
        """Return what counts the work of one download."""
        return self._reader.new_work()

    def _read_part(self, number: int, start: int, size_bytes: int, work: Work | None) -> bytes:
        begin = start - self._reader.chunk_start(number)
        chunk = self._take(number)
        try:
            with chunk.mutex:
                if chunk.raw is None:
                    chunk.buffer = self._buffers.take(self._reader.room_bytes(number))
                    chunk.raw = self._reader.chunk(number, chunk.buffer, work)
            return bytes(memoryview(chunk.raw)[max(begin, 0) : begin + size_bytes])
        finally:
            self._let_go(chunk)

    def _take(self, number: int) -> _Chunk:
        with self._mutex:
            chunk = self._chunks.setdefault(number, _Chunk())
            self._chunks.move_to_end(number)
            chunk.users += 1
            return chunk

    def _let_go(self, chunk: _Chunk) -> None:
        with self._mutex:
            chunk.users -= 1
            # What could not be decoded is tried again by who asks for it next.
            unused = [number for number, each in self._chunks.items() if not each.users]
            kept_bytes = sum(each.size_bytes for each in self._chunks.values())
            for number in unused[:-1]:
                if len(self._chunks) <= self._most and kept_bytes <= self._most_bytes:
                    break
                left = self._chunks.pop(number)
                kept_bytes -= left.size_bytes
                left.raw = None
                if left.buffer is not None:
                    self._buffers.give(left.buffer)


class _Chunk:
    """One chunk: its memory, and how many read it."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.users = 0
        self.buffer: bytearray | None = None
        self.raw: Buffer | None = None

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return 0 if self.raw is None else max(len(self.raw), len(self.buffer or b""))
