"""Memory for chunks: a pool of buffers that are used again, and a budget for those that are decoded ahead.

When a page of new memory is first used, the kernel clears and maps it. For buffers of a chunk's size that takes longer
than the work done in them, so packing and unpacking reuse their buffers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

# Of decoded chunks beyond what they are worth, whatever the number of cores.
_AHEAD_BYTES = 64 << 20
# A chunk of weights or text stores more than a sixteenth of its bytes, so that all cores work on it. One that stores
# less can be there by the million in a short file.
_WORTH = 16
# However many cores there are: with a buffer for each, and what its thread keeps, a quarter of a gigabyte.
MOST_IN_FLIGHT = 24


class BufferPool:
    """Buffers of one size: take one, use it, give it back. Threads may share a pool.

    Buffers are not cleared: they hold the bytes of their last user.

    Args:
        size_bytes: Length of each buffer.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: list[bytearray] = []

    def take(self, size_bytes: int = 0) -> bytearray:
        """Return a buffer that is not in use; a new one if all are, or if more than a pool's buffer is asked for."""
        if size_bytes > self._size_bytes:
            return bytearray(size_bytes)
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self._size_bytes)

    def give(self, buffer: bytearray) -> None:
        """Return a buffer to the pool; the caller must not use it afterwards."""
        if len(buffer) == self._size_bytes:
            self._free.append(buffer)


class Budget:
    """Counts the memory of chunks that are decoded ahead. Chunks are given back in the order in which they were taken.

    One thread takes and gives back.
    """

    def __init__(self) -> None:
        self._costs: deque[int] = deque()
        self._used = 0

    def has_room(self) -> bool:
        """Tell whether one more chunk may be decoded ahead."""
        return self._used < _AHEAD_BYTES

    def take(self, room_bytes: int, stored_bytes: int) -> None:
        """Count a chunk that takes `room_bytes` to decode."""
        cost = count_cost(room_bytes, stored_bytes)
        self._costs.append(cost)
        self._used += cost

    def give(self) -> None:
        """Give back the chunk that was taken first of those that are counted."""
        self._used -= self._costs.popleft()


def count_cost(room_bytes: int, stored_bytes: int) -> int:
    """Return how much memory a chunk takes beyond what it is worth."""
    return max(0, room_bytes - _WORTH * stored_bytes)


class Flight:
    """Counts the chunks that several threads have in memory, and lets who wants one more wait.

    Args:
        jobs: How many threads there are.
    """

    def __init__(self, jobs: int) -> None:
        self._most = 1 if jobs == 1 else min(2 * jobs, MOST_IN_FLIGHT)
        self._count = 0
        self._used = 0
        self._is_stopped = False
        self._changed = threading.Condition()

    def wait(self, is_ready: Callable[[], bool] = lambda: True) -> bool:
        """Wait until one more chunk may be read; return False once this was stopped.

        Args:
            is_ready: What else has to be so, unless all chunks have landed; asked again after each that lands.
        """

        def may_start() -> bool:
            has_room = self._count < self._most and self._used < _AHEAD_BYTES
            return self._is_stopped or not self._count or (has_room and is_ready())

        with self._changed:
            self._changed.wait_for(may_start)
            return not self._is_stopped

    def take(self, room_bytes: int, stored_bytes: int) -> Callable[[], None]:
        """Count a chunk that takes `room_bytes` to decode; return what to call once when it is no longer needed."""
        cost = count_cost(room_bytes, stored_bytes)
        with self._changed:
            self._count += 1
            self._used += cost

        def land() -> None:
            with self._changed:
                self._count -= 1
                self._used -= cost
                self._changed.notify_all()

        return land

    def stop(self) -> None:
        """Let nobody wait any longer: what is in the air may never land."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
