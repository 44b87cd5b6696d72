"""A bundle cut into pieces for a registry: each a blob that is sent once, whatever becomes of the push.

Registries that are made from docker's forget an upload that broke off. What they have whole they keep, so that a push
that is killed goes on behind the last whole piece.
"""

from __future__ import annotations

from collections.abc import Callable

from bundler.errors import UsageError
from bundler.files.digest import Algorithm, Digests, Hasher
from bundler.format.storage.stored import Stored
from bundler.text.wording import size

# Of one bundle: each takes a request to open it, and a line in the manifest.
_MOST_PIECES = 1000
_BLOCK_BYTES = 4 << 20


class Piece:
    """A run of a bundle's bytes (see `bundler.remote.oci.upload.Readable`)."""

    def __init__(self, stored: Stored, start: int, size_bytes: int) -> None:
        self._stored, self._start = stored, start
        self.size_bytes = size_bytes

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` of the piece."""
        self._stored.read_into(self._start + start, target)


def cut_into_pieces(stored: Stored, piece_bytes: int | None) -> list[Piece]:
    """Return the pieces of a bundle, none longer than `piece_bytes`; one of all of it where that is None.

    Raises:
        UsageError: There would be too many.
    """
    step = piece_bytes or stored.size_bytes
    if stored.size_bytes > step * _MOST_PIECES:
        raise UsageError(
            f"a bundle of {size(stored.size_bytes)} in pieces of {size(step)}: expected at most {_MOST_PIECES} pieces",
            hint="choose a larger --piece-size",
        )
    return [
        Piece(stored, start, min(step, stored.size_bytes - start)) for start in range(0, stored.size_bytes, step)
    ]


def hash_piece(
    piece: Piece, algorithm: Algorithm, progress: Callable[[int], None] = lambda count: None
) -> Digests:
    """Return the digest of a piece, read block by block.

    Args:
        piece: The piece.
        algorithm: Which digest.
        progress: Called with the number of bytes that were hashed since the last call.
    """
    hasher = Hasher((algorithm,), size_bytes=piece.size_bytes)
    room = memoryview(bytearray(min(_BLOCK_BYTES, piece.size_bytes)))
    position = 0
    while position < piece.size_bytes:
        block = room[: piece.size_bytes - position]
        piece.read_into(position, block)
        hasher.update(block)
        position += len(block)
        progress(len(block))
    return hasher.result()
