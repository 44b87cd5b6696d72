"""Some bytes of an object, read as an object of their own."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from bundler.errors import NetworkError
from bundler.remote.object import Body, RemoteObject, Take

_BLOCK_BYTES = 1 << 20


class Slice:
    """The bytes from `start` to `stop` of an object (see `bundler.remote.object.RemoteObject`).

    Args:
        source: The object; closed with this.
        start: The first byte.
        stop: The byte after the last.
    """

    def __init__(self, source: RemoteObject, start: int, stop: int) -> None:
        self.label, self.has_ranges = source.label, source.has_ranges
        self.size_bytes: int | None = stop - start
        self.content_digest: str | None = None
        self.bundle_digest: str | None = None
        self._source, self._start, self._stop = source, start, stop

    @property
    def version(self) -> str | None:
        """What tells the object from others (see `RemoteObject`)."""
        return self._source.version

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` (see `RemoteObject`)."""
        self._source.read_into(self._start + start, target)

    def read_blocks(self, start: int, stop: int, take: Take, halt: threading.Event) -> None:
        """Hand over the bytes from `start` to `stop` in order (see `RemoteObject`)."""
        self._source.read_blocks(self._start + start, self._start + stop, take, halt)

    def stream(self) -> Body:
        """Open it from its first byte on (see `RemoteObject`)."""
        return _SlicedBody(self._source.stream(), self._start, self._stop - self._start, self.label)

    def close(self) -> None:
        """Close all connections."""
        self._source.close()


class _SlicedBody:
    """What is behind the first `skipped` bytes of a body, and no more than `left` bytes."""

    def __init__(self, body: Body, skipped: int, left: int, label: str) -> None:
        self._body, self._skipped, self._left, self._label = body, skipped, left, label

    def readinto(self, buffer: memoryview, /) -> int:
        """Read some bytes (see `Body`)."""
        while self._skipped:
            room = memoryview(bytearray(min(self._skipped, _BLOCK_BYTES)))
            self._skipped -= self._read(room)
        if not self._left:
            return 0
        count = self._read(buffer[: self._left])
        self._left -= count
        return count

    def _read(self, room: memoryview) -> int:
        if room and not (count := self._body.readinto(room)):
            raise NetworkError(f"{self._label}: ended {self._skipped + self._left:,} bytes too early")
        return count if room else 0

    def __enter__(self) -> Self:
        self._body.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._body.__exit__(kind, error, trace)
