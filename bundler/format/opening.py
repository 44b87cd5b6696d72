"""Open a bundle: recognise it by its first bytes, then find and check the index at its end."""

from __future__ import annotations

from bundler.errors import FormatError
from bundler.format.index import (
    CHUNK_HEADER_BYTES,
    PREAMBLE,
    TRAILER_BYTES,
    Index,
    index_frame_bytes,
    parse_index_frame,
)
from bundler.format.storage.stored import Stored
from bundler.format.storage.volumes import VolumeSet


def read_index(stored: Stored) -> Index:
    """Read the index at the end of a bundle, and check everything that needs no further reading.

    Args:
        stored: The bundle's bytes.

    Raises:
        FormatError: `stored` is not a bundle, is cut short or damaged, or is of another version.
    """
    _check_beginning(stored)
    trailer = stored.read_at(max(stored.size_bytes - TRAILER_BYTES, 0), min(TRAILER_BYTES, stored.size_bytes))
    size = index_frame_bytes(trailer)
    if size + len(PREAMBLE) > stored.size_bytes:
        raise FormatError(f"index says it has {size} bytes, the file has {stored.size_bytes}: it was cut short")
    index = parse_index_frame(stored.read_at(stored.size_bytes - size, size))
    chunks = sum(chunk.stored_bytes + CHUNK_HEADER_BYTES for chunk in index.chunks)
    if len(PREAMBLE) + chunks + size != stored.size_bytes:
        raise FormatError(
            f"expected {len(PREAMBLE) + chunks + size} bytes by the index, the file has {stored.size_bytes}",
            hint="copy it again and compare sizes",
        )
    if isinstance(stored, VolumeSet) and stored.digest != index.digest:
        raise FormatError(f"the volumes belong to bundle {stored.digest}, the index to {index.digest}")
    return index


def _check_beginning(stored: Stored) -> None:
    found = stored.read_at(0, min(len(PREAMBLE), stored.size_bytes))
    if found == PREAMBLE:
        return
    if not found:
        raise FormatError("expected a bundle, found an empty file", hint="copy it again and compare sizes")
    if PREAMBLE.startswith(found):
        raise FormatError(
            f"expected a bundle, found only the first {len(found)} bytes of one",
            hint="copy it again and compare sizes",
        )
    if found.startswith(PREAMBLE[:4]):
        raise FormatError(
            f"expected a bundle, found {stored.size_bytes:,} bytes of another zstd file, such as a plain .tar.zst",
            hint="only a file that `bundle fetch` packed has an index, which reading and verifying need",
        )
    raise FormatError(
        f"expected a bundle, found {stored.size_bytes:,} bytes that begin with {found[:8].hex(' ')}",
        hint="name the file that `bundle fetch` wrote; a manifest or a lock is none",
    )
