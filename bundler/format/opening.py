"""Open a bundle: tell it from other files by its first bytes, and find and check the index at its end."""

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
    """Find the index at the end of a bundle, and check all that can be checked without reading more.

    Args:
        stored: The bundle's bytes.

    Raises:
        FormatError: Not a bundle, cut short, damaged, or of another version.
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
        raise FormatError(f"volumes say that they are of {stored.digest}, the index is {index.digest}")
    return index


def _check_beginning(stored: Stored) -> None:
    found = stored.read_at(0, min(len(PREAMBLE), stored.size_bytes))
    if found == PREAMBLE:
        return
    if not found:
        raise FormatError("expected a bundle, found an empty file", hint="copy it again and compare sizes")
    if PREAMBLE.startswith(found):
        raise FormatError(
            f"expected a bundle, found the first {len(found)} bytes of one",
            hint="copy it again and compare sizes",
        )
    if found.startswith(PREAMBLE[:4]):
        raise FormatError(
            f"expected a bundle, found {stored.size_bytes:,} bytes of another zstd file, as a plain .tar.zst is one",
            hint="only what `bundle fetch` packs has an index to be read and verified by",
        )
    raise FormatError(f"expected a bundle, found {stored.size_bytes:,} bytes that begin with {found[:8].hex(' ')}")
