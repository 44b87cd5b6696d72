"""Check the frames of a chunk against the index, and decode them."""

from __future__ import annotations

from bundler.errors import DamagedError, FormatError
from bundler.files.digest import blake3_bytes
from bundler.format.codec.codecs import Buffer, find_codec
from bundler.format.index import ChunkRecord


def check_stored(record: ChunkRecord, stored: bytes | memoryview, *, number: int) -> None:
    """Check the stored bytes of a chunk against its record.

    Raises:
        DamagedError: They differ; the message names the chunk and both digests.
    """
    found = blake3_bytes(stored)
    if len(stored) != record.stored_bytes or found != record.blake3:
        raise DamagedError(
            f"chunk {number} is damaged: expected blake3 {record.blake3.hex()} of {record.stored_bytes} bytes, "
            f"found {found.hex()} of {len(stored)}",
            hint="copy the bundle again; only this chunk is known to be damaged",
            chunk=number,
        )


def decode_chunk(
    record: ChunkRecord, frames: memoryview, room: memoryview | None = None, *, number: int
) -> Buffer:
    """Decode the checked frames of a chunk.

    Args:
        record: The chunk's record.
        frames: Its frames as stored, without the chunk header.
        room: A buffer for the result, at least `record.raw_bytes` long; by default new memory.
        number: Number of the chunk, for error messages.

    Raises:
        FormatError: The frames are not valid for the chunk's codec, or decode to another length.
    """
    codec = find_codec(record.codec)
    raw = codec.decode(frames, record.raw_bytes, memoryview(bytearray(record.raw_bytes)) if room is None else room)
    if len(raw) != record.raw_bytes:
        raise FormatError(f"chunk {number} decodes to {len(raw)} bytes, expected {record.raw_bytes}")
    return raw
