"""Long texts: put together piece by piece, and their memory given back."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable
from functools import lru_cache

# mallopt(3).
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20


def encode_pieces(pieces: Iterable[str]) -> bytes:
    """Return pieces as one text in UTF-8.

    `"".join` makes a list of them first: that of a lock of 100,000 files takes twice what its text does. What a BytesIO
    returns is its buffer, and no copy.
    """
    text = io.BytesIO()
    text.writelines(piece.encode() for piece in pieces)
    return text.getvalue()


@lru_cache(maxsize=1)
def return_large_blocks() -> None:
    """Have memory blocks of a megabyte and more go back to the system as soon as they are free.

    glibc takes large blocks from the system one by one, but only until one of them is freed: from then on it takes
    blocks of that size from its heap, where they leave holes. Of 100,000 files these are a quarter of all memory. Each
    large block then costs new pages, so this is for processes that handle such texts. Other libraries are left alone.
    """
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
