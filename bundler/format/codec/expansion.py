"""How much a bundle may decode to, so that a short file is little work, whatever is in it (FORMAT.md, "Expansion").

A decoder of zstd makes 128 KiB of four bytes, and a chunk that is a difference has others decoded for it: without a
bound a megabyte stands for 30 GB of zeros, and for far more work than that.
"""

from __future__ import annotations

import os

from bundler.errors import FormatError

# Set to 1, it lifts the limit for readers, never for writers.
ALLOW = "BUNDLE_ALLOW_EXPANSION"
_FREE_BYTES = 128 << 20
MOST_TIMES = 384
# Of a chunk that is decoded for another: to find, read and check it, however short it is.
_EACH_BYTES = 64 << 10


def most_bytes(stored_bytes: int) -> int:
    """Return what the first `stored_bytes` of a bundle may decode to; and what may be decoded of bases for it."""
    return _FREE_BYTES + MOST_TIMES * stored_bytes


def work_bytes(raw_bytes: int, stored_bytes: int) -> int:
    """Return what a chunk counts that is decoded because another is a difference from it."""
    return raw_bytes + stored_bytes + _EACH_BYTES


def check_expansion(raw_bytes: int, stored_bytes: int) -> None:
    """Make sure that what was read of a bundle does not decode to more than it may.

    Args:
        raw_bytes: Length of its tar stream so far.
        stored_bytes: Length of the bundle so far.

    Raises:
        FormatError: It decodes to more.
    """
    if raw_bytes > (limit := most_bytes(stored_bytes)) and not _is_allowed():
        raise FormatError(
            f"its first {stored_bytes:,} bytes decode to {raw_bytes:,}, expected at most {limit:,}",
            hint="it was made to be a burden, or by version 0.1.0 of content that is nearly all zeros: pack it again, "
            f"or set {ALLOW}=1 if you know what is in it",
        )


def _is_allowed() -> bool:
    return os.environ.get(ALLOW) == "1"


class Work:
    """Counts what is decoded of bases in one pass through a bundle. Threads may share it.

    Args:
        stored_bytes: Length of the bundle.
    """

    def __init__(self, stored_bytes: int) -> None:
        self._left_bytes = 1 << 63 if _is_allowed() else most_bytes(stored_bytes)

    def add(self, count: int) -> None:
        """Allow more."""
        self._left_bytes += count

    def spend(self, count: int) -> None:
        """Count some of it.

        Raises:
            FormatError: It is more than there may be.
        """
        # A race between threads loses a part of the count, and no more.
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise FormatError(
                f"its differences ask for more to be decoded than {MOST_TIMES} times its length",
                hint="it was tampered with, or made by a faulty program: do not use it",
            )
