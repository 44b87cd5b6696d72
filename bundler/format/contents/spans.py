"""Spans of a tar stream: copied out of its chunks, or as a file that can be read and sought in."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import Protocol

from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.codecs import Buffer
from bundler.format.codec.expansion import Work


class ChunkReader(Protocol):
    """A bundle whose chunks can be read in any order (`bundler.format.reader.BundleReader`)."""

    def chunk(self, number: int, room: bytearray | None = None, work: Work | None = None) -> Buffer:
        """Return a chunk's run of the tar stream, perhaps a view into `room`."""

    def new_work(self) -> Work:
        """Return what may be decoded of bases in one pass through the bundle."""

    def room_bytes(self, number: int) -> int:
        """Return how long a room `chunk` needs."""

    def cost_of(self, number: int) -> tuple[int, int]:
        """Return how much memory decoding a chunk takes, and how many bytes are stored for that."""

    def chunk_span(self, start: int, stop: int) -> range:
        """Return the numbers of the chunks that hold bytes `start` to `stop` of the tar stream."""

    def chunk_start(self, number: int) -> int:
        """Return the offset of a chunk in the tar stream."""


def copy_span(
    reader: ChunkReader, start: int, room: memoryview, buffers: BufferPool, work: Work | None = None
) -> None:
    """Fill `room` with the tar stream from offset `start`, which reaches that far."""
    work = work or reader.new_work()
    for number in reader.chunk_span(start, start + len(room)):
        begin = reader.chunk_start(number) - start
        buffer = buffers.take(reader.room_bytes(number))
        raw = memoryview(reader.chunk(number, buffer, work))
        first, last = max(begin, 0), min(begin + len(raw), len(room))
        room[first:last] = raw[first - begin : last - begin]
        buffers.give(buffer)


def list_chunks(reader: ChunkReader, wanted: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Yield the numbers of the chunks that hold some of these spans, which are in order, each once."""
    first = 0
    for start, stop in wanted:
        for number in reader.chunk_span(start, stop):
            # One chunk may hold the end of a span and the start of the next.
            if number >= first:
                yield number
                first = number + 1


class BlobStream(io.RawIOBase):
    """A span, such as a blob, as a raw stream.

    It keeps the last chunk in memory, because readers read small pieces in order. Going back begins another pass.
    """

    def __init__(self, reader: ChunkReader, start: int, size_bytes: int) -> None:
        self._reader = reader
        self._start = start
        self._size_bytes = size_bytes
        self._position = 0
        self._chunk: tuple[int, Buffer] | None = None
        self._work = reader.new_work()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = min(len(buffer), self._size_bytes - self._position)
        if size <= 0:
            return 0
        start = self._start + self._position
        number = self._reader.chunk_span(start, start + 1)[0]
        if self._chunk is None or self._chunk[0] != number:
            if self._chunk is not None and number < self._chunk[0]:
                self._work = self._reader.new_work()
            self._chunk = None  # Not kept while the next is decoded.
            self._chunk = (number, self._reader.chunk(number, None, self._work))
        begin = start - self._reader.chunk_start(number)
        part = self._chunk[1][begin : begin + size]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)
