"""A pool of buffers that are used again.

When a page of new memory is first used, the kernel clears and maps it. For buffers of a chunk's size that takes longer
than the work done in them, so packing and unpacking reuse their buffers.
"""

from __future__ import annotations


class BufferPool:
    """Buffers of one size: take one, use it, give it back. Threads may share a pool.

    Buffers are not cleared: they hold the bytes of their last user.

    Args:
        size_bytes: Length of each buffer.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer that is not in use; a new one if all are."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self._size_bytes)

    def give(self, buffer: bytearray) -> None:
        """Return a buffer to the pool; the caller must not use it afterwards."""
        self._free.append(buffer)
