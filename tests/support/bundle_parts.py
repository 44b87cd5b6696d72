"""A bundle file taken apart by the offsets of FORMAT.md, to be damaged, cut or put together in another way."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

_PREAMBLE_BYTES = 9
_CHUNK_HEADER_BYTES = 56
_TRAILER_BYTES = 48


@dataclass(frozen=True)
class Parts:
    """The bytes of one bundle.

    Attributes:
        preamble: The empty frame at its start.
        chunks: Header and frames of each chunk.
        index: The index frame, trailer included.
    """

    preamble: bytes
    chunks: tuple[bytes, ...]
    index: bytes

    def joined(self) -> bytes:
        """Return the file."""
        return b"".join([self.preamble, *self.chunks, self.index])

    def with_chunk(self, number: int, chunk: bytes) -> Parts:
        """Return the same with another chunk in one place."""
        return replace(self, chunks=(*self.chunks[:number], chunk, *self.chunks[number + 1 :]))

    def with_index(self, index: bytes) -> Parts:
        """Return the same with another index."""
        return replace(self, index=index)

    def chunk_end(self, number: int) -> int:
        """Return where a chunk ends in the file."""
        return len(self.preamble) + sum(map(len, self.chunks[: number + 1]))


def taken_apart(content: bytes) -> Parts:
    """Take a bundle file apart."""
    chunks = []
    position = _PREAMBLE_BYTES
    while content[position + 8 : position + 12] == b"HFBC":
        (stored_bytes,) = struct.unpack_from("<I", content, position + 20)
        end = position + _CHUNK_HEADER_BYTES + stored_bytes
        chunks.append(content[position:end])
        position = end
    assert content[position + 8 : position + 12] == b"HFBI"
    assert content[-8:] == b"HFBUNDLE"
    return Parts(content[:_PREAMBLE_BYTES], tuple(chunks), content[position:])


def flipped(data: bytes, position: int) -> bytes:
    """Return `data` with one bit of the byte at `position` turned over; negative positions count from the end."""
    changed = bytearray(data)
    changed[position] ^= 0x10
    return bytes(changed)
