"""Check the frames of a chunk against the index, and decode them."""

from __future__ import annotations

from bundler.errors import DamagedError, FormatError
from bundler.files.digest import blake3_bytes
from bundler.format.codec.buffers import BufferPool
from bundler.format.codec.codecs import Buffer, DifferenceCodec, find_codec
from bundler.format.contents.bases import MAX_DIFFERENCE_BYTES, PLACE_BYTES, BasePlace, ReadBase
from bundler.format.index import ChunkRecord

# For the base's bytes: as long as the chunks that a writer makes.
_base_rooms = BufferPool(MAX_DIFFERENCE_BYTES // 2)


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


def align(offset: int) -> int:
    """Return where in a buffer a chunk may be decoded to, from `offset` on.

    Words at odd addresses take numpy a fifth longer to merge.
    """
    return offset + -offset % 16


def decode_chunk(
    record: ChunkRecord,
    frames: memoryview,
    room: memoryview | None = None,
    *,
    number: int,
    read_base: ReadBase | None = None,
) -> Buffer:
    """Decode the checked frames of a chunk. All that reads bundles decodes here.

    Args:
        record: The chunk's record.
        frames: Its frames as stored, without the chunk header.
        room: A buffer for the result, at least `record.raw_bytes` long; by default new memory.
        number: Number of the chunk, for error messages.
        read_base: Reads what a chunk is the difference from; None where no chunk may be one.

    Raises:
        FormatError: The frames are not valid for the chunk's codec, or decode to another length.
        MissingBaseError: What it is the difference from is not here.
    """
    codec = find_codec(record.codec)
    room = memoryview(bytearray(record.raw_bytes)) if room is None else room
    if isinstance(codec, DifferenceCodec):
        try:
            raw = _decode_difference(codec, record, frames, room, read_base)
        except DamagedError:
            raise  # Of the base: it says where.
        except FormatError as error:
            raise FormatError(f"chunk {number}: {error.message}", hint=error.hint) from error
    else:
        raw = codec.decode(frames, record.raw_bytes, room)
    if len(raw) != record.raw_bytes:
        raise FormatError(f"chunk {number} decodes to {len(raw)} bytes, expected {record.raw_bytes}")
    return raw


def _decode_difference(
    codec: DifferenceCodec, record: ChunkRecord, frames: memoryview, room: memoryview, read_base: ReadBase | None
) -> Buffer:
    place = BasePlace.parse(frames)
    if read_base is None:
        raise FormatError("it is a difference, and stands before the end of the list of bases")
    if record.raw_bytes > MAX_DIFFERENCE_BYTES:
        raise FormatError(
            f"it is a difference of {record.raw_bytes} bytes, expected at most {MAX_DIFFERENCE_BYTES}"
        )
    buffer = _base_rooms.take(record.raw_bytes)
    try:
        base = memoryview(buffer)[: record.raw_bytes]
        read_base(place, base)
        return codec.decode(frames[PLACE_BYTES:], base, record.raw_bytes, room)
    finally:
        _base_rooms.give(buffer)
