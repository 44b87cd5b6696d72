"""A chunk's frames: compared with what the index says of them, and decoded."""

from __future__ import annotations

from bundler.errors import DamagedError, FormatError
from bundler.files.digest import blake3_bytes
from bundler.format.codec.codecs import Buffer, find_codec
from bundler.format.index import ChunkRecord


def check_stored(record: ChunkRecord, stored: bytes | memoryview, *, number: int) -> None:
    """Refuse a chunk whose stored bytes are not those that its record names.

    Raises:
        DamagedError: Names the chunk and both digests.
    """
    found = blake3_bytes(stored)
    if len(stored) != record.stored_bytes or found != record.blake3:
        raise DamagedError(
            f"chunk {number} is damaged: expected blake3 {record.blake3.hex()} of {record.stored_bytes} bytes, "
            f"found {found.hex()} of {len(stored)}",
            hint="copy the bundle again; the other chunks need not be suspected",
            chunk=number,
        )


def decode_chunk(
    record: ChunkRecord, frames: memoryview, room: memoryview | None = None, *, number: int
) -> Buffer:
    """Decode the checked frames of a chunk.

    Args:
        record: What is known of it.
        frames: As stored, without header.
        room: Where the result may lie, as long as the raw bytes at least; by default new memory.
        number: For error messages.

    Raises:
        FormatError: They are not frames of its codec, or decode to another length.
    """
    codec = find_codec(record.codec)
    raw = codec.decode(frames, record.raw_bytes, memoryview(bytearray(record.raw_bytes)) if room is None else room)
    if len(raw) != record.raw_bytes:
        raise FormatError(f"chunk {number} decodes to {len(raw)} bytes, expected {record.raw_bytes}")
    return raw
