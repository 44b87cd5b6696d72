"""Words for people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return ``1 file`` or ``2,000 files``, for a noun whose plural is made with an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
