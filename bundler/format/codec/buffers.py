"""Memory for chunks: a pool of buffers that are used again, and a budget for those that are decoded ahead.

When a page of new memory is first used, the kernel clears and maps it. For buffers of a chunk's size that takes longer
than the work done in them, so packing and unpacking reuse their buffers.
"""

from __future__ import annotations

from collections import deque

# Of decoded chunks beyond what they are worth, whatever the number of cores.
_AHEAD_BYTES = 64 << 20
# A chunk of weights or text stores more than a sixteenth of its bytes, so that all cores work on it. One that stores
# less can be there by the million in a short file.
_WORTH = 16


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
        cost = max(0, room_bytes - _WORTH * stored_bytes)
        self._costs.append(cost)
        self._used += cost

    def give(self) -> None:
        """Give back the chunk that was taken first of those that are counted."""
        self._used -= self._costs.popleft()
