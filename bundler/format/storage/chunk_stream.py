"""The content of one member of the tar stream as a file that can be read and sought."""

from __future__ import annotations

import io
import os
from typing import Protocol

from bundler.format.codec.codecs import Buffer


class Member(Protocol):
    """A member of the tar stream."""

    @property
    def offset(self) -> int:
        """Where its content begins in the tar stream."""

    @property
    def size_bytes(self) -> int:
        """Length of its content."""


class Chunked(Protocol):
    """What holds the tar stream in chunks (`bundler.format.reader.BundleReader`)."""

    def chunk(self, number: int) -> Buffer:
        """Return a chunk's run of the tar stream, checked and decoded."""

    def chunk_span(self, start: int, stop: int) -> range:
        """Return the numbers of the chunks that hold bytes `start` to `stop` of the tar stream."""

    def chunk_start(self, number: int) -> int:
        """Return the offset of a chunk in the tar stream."""


class ChunkStream(io.RawIOBase):
    """A member as a raw stream; it keeps the last chunk in memory, because readers read small pieces in order."""

    def __init__(self, reader: Chunked, member: Member) -> None:
        self._reader = reader
        self._member = member
        self._position = 0
        self._chunk: tuple[int, Buffer] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._member.size_bytes}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = min(len(buffer), self._member.size_bytes - self._position)
        if size <= 0:
            return 0
        start = self._member.offset + self._position
        number = self._reader.chunk_span(start, start + 1)[0]
        if self._chunk is None or self._chunk[0] != number:
            self._chunk = (number, self._reader.chunk(number))
        begin = start - self._reader.chunk_start(number)
        part = self._chunk[1][begin : begin + size]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)
