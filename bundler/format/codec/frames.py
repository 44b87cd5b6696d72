"""Write zstd frames without a compressor, for content that does not compress.

A zstd frame (RFC 8878, 3.1.1) is a header and blocks of at most 128 KiB, each of which may be raw. Such a frame costs
three bytes per block and almost no time to write, and is read without a copy. The low bytes of weights are noise, and
half of a bf16 model is low bytes, so this makes packing and unpacking fast.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bundler.errors import FormatError

BLOCK_BYTES = 128 << 10

# Each block takes time, whatever is in it. The zstd library makes at most 196 of 128 KiB, by "block splitting".
_FREE_BLOCKS = 64
_LEAST_BLOCK_BYTES = 512

_MAGIC = 0xFD2FB528
# Frame header descriptor: an 8-byte content size, one segment (so no window descriptor), no checksum, no dictionary.
_DESCRIPTOR = 0b11_1_0_0_0_00
_HEADER = struct.Struct("<IBQ")
HEADER_BYTES = _HEADER.size
BLOCK_HEADER_BYTES = 3


def stored_frame_bytes(content_bytes: int) -> int:
    """Return the length in bytes of the stored frame for a non-empty content of `content_bytes`."""
    blocks = -(-content_bytes // BLOCK_BYTES)
    return HEADER_BYTES + blocks * BLOCK_HEADER_BYTES + content_bytes


def lay_out_stored_frame(frame: memoryview, content_bytes: int) -> list[memoryview]:
    """Write the headers of a stored frame into `frame`; return views into it for the content, one per block.

    Args:
        frame: Writable memory, `stored_frame_bytes(content_bytes)` long.
        content_bytes: Length of the content; not 0.
    """
    _HEADER.pack_into(frame, 0, _MAGIC, _DESCRIPTOR, content_bytes)
    places = []
    position, left = HEADER_BYTES, content_bytes
    while left:
        size = min(left, BLOCK_BYTES)
        left -= size
        # Block_Header: last-block flag, type 0 (raw), size.
        frame[position : position + 3] = ((size << 3) | (left == 0)).to_bytes(3, "little")
        places.append(frame[position + 3 : position + 3 + size])
        position += 3 + size
    return places


def stored_frame(content: bytes | bytearray | memoryview) -> bytes:
    """Return the stored frame of a non-empty content."""
    frame = bytearray(stored_frame_bytes(len(content)))
    view, start = memoryview(content), 0
    for place in lay_out_stored_frame(memoryview(frame), len(content)):
        place[:] = view[start : start + len(place)]
        start += len(place)
    return bytes(frame)


def stored_blocks(frame: memoryview) -> list[memoryview] | None:
    """Return the content of a frame that `lay_out_stored_frame` made, as views into it; None for any other frame."""
    if len(frame) < HEADER_BYTES:
        return None
    magic, descriptor, content_bytes = _HEADER.unpack_from(frame)
    if (magic, descriptor) != (_MAGIC, _DESCRIPTOR) or len(frame) != stored_frame_bytes(max(content_bytes, 1)):
        return None
    blocks = []
    for position, size, last in _expected_blocks(content_bytes):
        if frame[position : position + 3] != ((size << 3) | last).to_bytes(3, "little"):
            return None
        blocks.append(frame[position + 3 : position + 3 + size])
    return blocks


def first_block_end(frame: memoryview) -> int:
    """Return where the first block ends of a frame whose header is that of stored frames."""
    header = int.from_bytes(frame[HEADER_BYTES : HEADER_BYTES + BLOCK_HEADER_BYTES], "little")
    return HEADER_BYTES + BLOCK_HEADER_BYTES + (header >> 3)


def frame_bytes(data: memoryview, content_bytes: int) -> int:
    """Return the length of the zstd frame that `data` starts with (RFC 8878, 3.1.1).

    Args:
        data: Begins with the frame.
        content_bytes: What it is to decode to.

    Raises:
        FormatError: `data` does not start with a zstd frame, or the frame is cut short, or in far too many blocks.
    """
    try:
        (magic,) = struct.unpack_from("<I", data)
        if magic != _MAGIC:
            raise FormatError("expected a zstd frame, found other bytes")
        descriptor = data[4]
        is_single_segment = bool(descriptor & 0x20)
        content_size_bytes = (1 if is_single_segment else 0, 2, 4, 8)[descriptor >> 6]
        dictionary_id_bytes = (0, 1, 2, 4)[descriptor & 3]
        position = 5 + (not is_single_segment) + dictionary_id_bytes + content_size_bytes
        last, left = False, _FREE_BLOCKS + content_bytes // _LEAST_BLOCK_BYTES
        while not last:
            header = int.from_bytes(data[position : position + 3], "little")
            if position + 3 > len(data):
                raise FormatError("zstd frame is cut short")
            left -= 1
            if left < 0:
                raise FormatError(
                    f"zstd frame of {content_bytes} bytes is in more blocks than any writer would make"
                )
            last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            # A run-length block stores one byte, however many it decodes to.
            position += 3 + (1 if kind == 1 else size)
        position += 4 if descriptor & 4 else 0
    except (struct.error, IndexError) as error:
        raise FormatError("zstd frame is cut short") from error
    if position > len(data):
        raise FormatError("zstd frame is cut short")
    return position


def _expected_blocks(content_bytes: int) -> Iterator[tuple[int, int, bool]]:
    position, left = HEADER_BYTES, content_bytes
    while left:
        size = min(left, BLOCK_BYTES)
        left -= size
        yield position, size, left == 0
        position += BLOCK_HEADER_BYTES + size
