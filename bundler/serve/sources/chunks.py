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
# Decoding takes two to three times a chunk's length.
MOST_BYTES = 96 << 20


class SharedChunks:
    """Reads a tar stream through the chunks that were decoded last. All methods may be called from several threads.

    Args:
        reader: The bundle.
        pooled_bytes: Length of the buffers that are used again; a longer chunk has memory of its own.
        most: How many chunks are kept.
        most_bytes: How much they may take, those that are being read included; one alone may take more.
    """

    def __init__(
        self, reader: ChunkReader, pooled_bytes: int, *, most: int = MOST_CHUNKS, most_bytes: int = MOST_BYTES
    ) -> None:
        self._reader = reader
        self._most, self._most_bytes = most, most_bytes
        self._buffers = BufferPool(pooled_bytes)
        # Who wants a chunk decoded waits for memory; nobody holds one chunk while waiting for another.
        self._room = threading.Condition()
        self._used_bytes = 0
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
        room, done = memoryview(bytearray(size_bytes)), 0
        while done < size_bytes:
            count = self.read_into(room[done:], start + done, work)
            assert count, "the tar stream reaches that far"
            done += count
        return bytes(room)

    def read_into(
        self, room: memoryview, start: int, work: Work | None = None, *, may_decode: bool = True
    ) -> int | None:
        """Read from offset `start` of the tar stream to the end of a room, or of a chunk.

        Args:
            room: What is filled.
            start: First byte.
            work: As for `read`.
            may_decode: Have the chunk decoded.

        Returns:
            How many bytes came; None if the chunk would have to be decoded.

        Raises:
            FormatError: The chunk is damaged.
        """
        number = self._reader.chunk_span(start, start + 1)[0]
        begin = start - self._reader.chunk_start(number)
        chunk = self._take(number)
        try:
            if chunk.raw is None:
                if not may_decode:
                    return None
                with chunk.mutex:
                    if chunk.raw is None:
                        self._decode(chunk, work)
            assert chunk.raw is not None
            # Nobody frees what somebody uses.
            part = memoryview(chunk.raw)[begin : begin + len(room)]
            room[: len(part)] = part
            return len(part)
        finally:
            self._let_go(chunk)

    def new_work(self) -> Work:
        """Return what counts the work of one download."""
        return self._reader.new_work()

    def _take(self, number: int) -> _Chunk:
        with self._room:
            chunk = self._chunks.setdefault(number, _Chunk(number))
            self._chunks.move_to_end(number)
            chunk.users += 1
            return chunk

    def _decode(self, chunk: _Chunk, work: Work | None) -> None:
        cost_bytes = self._reader.cost_of(chunk.number)[0]
        with self._room:
            # One that takes more than there is, is decoded alone.
            while self._used_bytes and self._used_bytes + cost_bytes > self._most_bytes:
                if unused := self._list_unused():
                    self._free(unused[0])
                else:
                    self._room.wait()
            chunk.cost_bytes = cost_bytes
            self._used_bytes += cost_bytes
        try:
            chunk.buffer = self._buffers.take(self._reader.room_bytes(chunk.number))
            chunk.raw = self._reader.chunk(chunk.number, chunk.buffer, work)
        except BaseException:
            # Whoever waits for this one tries again, and others may have the memory meanwhile.
            with self._room:
                self._free(chunk)
                self._room.notify_all()
            raise

    def _let_go(self, chunk: _Chunk) -> None:
        with self._room:
            chunk.users -= 1
            if not chunk.users and chunk.raw is None:
                del self._chunks[chunk.number]
            # The one that was used last is kept.
            for old in self._list_unused()[:-1]:
                if len(self._chunks) > self._most or self._used_bytes > self._most_bytes:
                    self._free(old)
            self._room.notify_all()

    def _list_unused(self) -> list[_Chunk]:
        """Return the decoded chunks that nobody reads, the oldest first."""
        return [each for each in self._chunks.values() if not each.users and each.raw is not None]

    def _free(self, chunk: _Chunk) -> None:
        """Give the memory of a chunk back, and forget the chunk if nobody waits for it."""
        self._used_bytes -= chunk.cost_bytes
        chunk.cost_bytes, chunk.raw = 0, None
        buffer, chunk.buffer = chunk.buffer, None
        if buffer is not None:
            self._buffers.give(buffer)
        if not chunk.users:
            del self._chunks[chunk.number]


class _Chunk:
    """One chunk: its memory, what decoding it takes of that, and how many read it or wait for it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.mutex = threading.Lock()
        self.users = 0
        self.cost_bytes = 0
        self.buffer: bytearray | None = None
        self.raw: Buffer | None = None
