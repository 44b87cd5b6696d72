"""Where a bundle is cut into volumes: between its chunks, so that each volume is itself a valid zstd file."""

from __future__ import annotations

from bundler.errors import UsageError
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES


class VolumeCut:
    """The volumes that a bundle's chunks, and its index, are put into, as many into each as fit.

    Args:
        limit_bytes: The longest that a volume may be.
        option: What it was said with.

    Attributes:
        part_bytes: Of each volume so far, how long its part of the bundle is.
    """

    def __init__(self, limit_bytes: int, *, option: str = "--volume-size") -> None:
        self.part_bytes: list[int] = []
        self._limit, self._option = limit_bytes, option

    def add(self, length: int) -> bool:
        """Add a chunk with its header, or the index; return whether a volume begins with it.

        Raises:
            UsageError: It is longer than a volume may be.
        """
        if VOLUME_HEAD_BYTES + length > self._limit:
            raise UsageError(
                f"a volume of {self._limit:,} bytes is too small: this bundle has a piece that needs "
                f"{VOLUME_HEAD_BYTES + length:,}",
                hint=f"choose a larger {self._option}",
            )
        begins = not self.part_bytes or self.part_bytes[-1] + VOLUME_HEAD_BYTES + length > self._limit
        if begins:
            self.part_bytes.append(0)
        self.part_bytes[-1] += length
        return begins
