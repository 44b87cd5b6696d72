"""Words for people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return ``1 file`` or ``2,000 files``, for a noun whose plural is made with an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(count: int) -> str:
    """Return a number of bytes for people, in units of 1000 as disks and `hf` count: ``91.2 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.3g} {unit}"
