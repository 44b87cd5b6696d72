"""Put a long text together, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable


def encode_pieces(pieces: Iterable[str]) -> bytes:
    """Return pieces as one text in UTF-8.

    `"".join` makes a list of them first: that of a lock of 100,000 files takes twice what its text does.
    """
    text = bytearray()
    for piece in pieces:
        text += piece.encode()
    return bytes(text)
