"""Fetch ahead of a reader: ranges that it will ask for, in that order, over several connections, in bounded memory.

Rule book:

* neighbours are fetched together, and nothing is fetched that was not announced;
* a reader that asks for what was not begun yet fetches it itself: nobody waits for room that only the waiting one can
  make;
* what was read is forgotten; a failure is that of whoever asks for the bytes.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable

from bundler.remote.object import RemoteObject

CONNECTIONS = 8
PART_BYTES = 6 << 20
WINDOW_BYTES = 64 << 20

_Span = tuple[int, int]


class _Part:
    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self.is_begun = False
        self.is_done = threading.Event()
        self.data: bytearray | None = None
        self.error: BaseException | None = None
        self.left_bytes = stop - start

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


class Ahead:
    """Fetches announced ranges of one object ahead of their reader.

    Args:
        source: The object, with ranges.
        spans: What will be read: first byte and the byte after the last of each, ascending, each asked for whole.
    """

    def __init__(self, source: RemoteObject, spans: Iterable[_Span]) -> None:
        self._source = source
        self._parts = [_Part(start, stop) for start, stop in _join(spans)]
        self._starts = [part.start for part in self._parts]
        self._condition = threading.Condition()
        self._next = 0
        self._held_bytes = 0
        self._is_closed = False
        count = min(CONNECTIONS, len(self._parts))
        self._threads = [
            threading.Thread(target=self._work, name=f"range-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def read_into(self, start: int, target: memoryview) -> bool:
        """Fill `target` with announced bytes from `start`.

        Returns:
            False: They were not announced, or were read before.

        Raises:
            BundleError: What fetching them ended with.
        """
        part = self._take(start, start + len(target))
        if part is None:
            return False
        part.is_done.wait()
        if part.error is not None:
            raise part.error
        with self._condition:
            if part.data is None:
                return False
            at = start - part.start
            target[:] = memoryview(part.data)[at : at + len(target)]
            part.left_bytes -= len(target)
            if part.left_bytes <= 0:
                part.data = None
                self._held_bytes -= part.size_bytes
                self._condition.notify_all()
        return True

    def close(self) -> None:
        """Fetch no more; what is on its way is not waited for."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _take(self, start: int, stop: int) -> _Part | None:
        at = bisect_right(self._starts, start) - 1
        part = self._parts[at] if at >= 0 else None
        if part is None or stop > part.stop:
            return None
        with self._condition:
            if part.is_begun or self._is_closed:
                return part if part.is_begun else None
            self._begin(part)
        self._fetch(part)
        return part

    def _begin(self, part: _Part) -> None:
        part.is_begun = True
        self._held_bytes += part.size_bytes

    def _work(self) -> None:
        while (part := self._choose()) is not None:
            self._fetch(part)

    def _choose(self) -> _Part | None:
        with self._condition:
            while not self._is_closed:
                while self._next < len(self._parts) and self._parts[self._next].is_begun:
                    self._next += 1
                if self._next == len(self._parts):
                    return None
                part = self._parts[self._next]
                if not self._held_bytes or self._held_bytes + part.size_bytes <= WINDOW_BYTES:
                    self._begin(part)
                    return part
                self._condition.wait()
        return None

    def _fetch(self, part: _Part) -> None:
        try:
            data = bytearray(part.size_bytes)
            self._source.read_into(part.start, memoryview(data))
            part.data = data
        except BaseException as error:
            part.error = error
        finally:
            part.is_done.set()


def _join(spans: Iterable[_Span]) -> list[_Span]:
    """Join neighbours, as long as a part does not get longer than `PART_BYTES`."""
    joined: list[_Span] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start and stop - joined[-1][0] <= PART_BYTES:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
