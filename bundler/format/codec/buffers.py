"""Memory that is used again.

The kernel clears each page of fresh memory and maps it when it is first touched. For buffers of a chunk's size that
costs more than the arithmetic done in them, so packing and unpacking hand theirs around instead of making new ones.
"""

from __future__ import annotations


class BufferPool:
    """Buffers of one size that go round: take one, use it, give it back. Threads may share a pool.

    Nothing is cleared: a buffer holds what its last user left.

    Args:
        size_bytes: Length of each buffer.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer that nobody else has; a new one if all are in use."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self._size_bytes)

    def give(self, buffer: bytearray) -> None:
        """Let others take a buffer; the giver must not touch it any more."""
        self._free.append(buffer)
