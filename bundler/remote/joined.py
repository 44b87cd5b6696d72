"""Several objects that are one, cut: read as if they stood one after the other."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from types import TracebackType
from typing import Self

from bundler.errors import NetworkError
from bundler.remote.object import Body, RemoteObject, Take


class JoinedObject:
    """Objects one after the other (see `bundler.remote.object.RemoteObject`).

    Args:
        parts: The objects, in order, none empty; closed with this.
        sizes: Their lengths, for those that do not say it.
        version: What tells the whole from others.
    """

    def __init__(self, parts: Sequence[RemoteObject], sizes: Sequence[int], version: str) -> None:
        self._parts = list(parts)
        self._starts = [0, *accumulate(sizes)]
        self.label = parts[0].label
        self.size_bytes: int | None = self._starts[-1]
        self.has_ranges = all(part.has_ranges for part in parts)
        self.content_digest: str | None = None
        self.bundle_digest: str | None = None
        self._version = version

    @property
    def version(self) -> str | None:
        """What tells it from others (see `RemoteObject`)."""
        return self._version

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` (see `RemoteObject`)."""
        done = 0
        while done < len(target):
            number, offset = self._find(start + done)
            room = target[done : done + self._starts[number + 1] - start - done]
            self._parts[number].read_into(offset, room)
            done += len(room)

    def read_blocks(self, start: int, stop: int, take: Take, halt: threading.Event) -> None:
        """Hand over the bytes from `start` to `stop` in order (see `RemoteObject`)."""
        while start < stop and not halt.is_set():
            number, offset = self._find(start)
            end = min(stop, self._starts[number + 1])
            self._parts[number].read_blocks(offset, offset + end - start, take, halt)
            start = end

    def stream(self) -> Body:
        """Open it from its first byte on (see `RemoteObject`)."""
        return _JoinedBody(self._parts)

    def close(self) -> None:
        """Close all connections."""
        for part in self._parts:
            part.close()

    def _find(self, position: int) -> tuple[int, int]:
        """Return the number of the part that holds a byte, and its offset there."""
        if position >= self._starts[-1]:
            raise NetworkError(f"{self.label}: ends at byte {self._starts[-1]}")
        number = bisect_right(self._starts, position) - 1
        return number, position - self._starts[number]


class _JoinedBody:
    """The bytes of all parts; each is asked for when the one before has ended."""

    def __init__(self, parts: Sequence[RemoteObject]) -> None:
        self._rest = iter(parts)
        self._open = ExitStack()
        self._body: Body | None = self._enter_next()

    def readinto(self, buffer: memoryview, /) -> int:
        """Read some bytes (see `Body`)."""
        while self._body is not None:
            if count := self._body.readinto(buffer):
                return count
            self._body = self._enter_next()
        return 0

    def _enter_next(self) -> Body | None:
        self._open.close()
        part = next(self._rest, None)
        return None if part is None else self._open.enter_context(part.stream())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
