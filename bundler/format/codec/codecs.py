"""Codecs convert the raw bytes of a chunk to zstd frames and back (FORMAT.md, "Codecs").

The chunk's record gives the number of the codec. Every codec writes zstd frames, so `zstd -t` accepts every bundle;
only those of the codec `zstd` decode to the tar stream itself.

A compressor takes long to create and must not be shared between threads, so each thread keeps its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import zstandard

from bundler.errors import FormatError
from bundler.format.codec.frames import (
    BLOCK_BYTES,
    BLOCK_HEADER_BYTES,
    HEADER_BYTES,
    first_block_end,
    frame_bytes,
    lay_out_stored_frame,
    stored_blocks,
    stored_frame,
    stored_frame_bytes,
)
from bundler.format.codec.words import chosen_way

Buffer = bytes | bytearray | memoryview
CodecChoice = Literal["auto", "zstd"]

# zstd's own default: on text and vocabularies higher levels gain a few percent for several times the time, and
# weights gain nothing from them.
DEFAULT_LEVEL = 3

_MAX_WIDTH = 4

# Of a plane, in each thread; a writer has no longer ones.
_KEPT_BYTES = 2 << 20

# Compression is not tried further if the result is larger than this share of the content.
_WORTHWHILE = 0.99

# Where so many words are those of the base, sorting differences takes longer and saves next to nothing.
_MOSTLY_EQUAL = 0.9

# What matches have to bring if they are to be searched for.
_MATCHES_GAIN = 0.98

# For planes of differences, whose bytes are independent, and for planes of exponents that `exponents` does not code: a
# search for long matches only, in a very small table. The entropy coder does the rest, and reaches the entropy of the
# bytes. Plain level 1 finds short matches, which take more bytes than the literals they replace.
_EXPONENTS = {"min_match": 7, "hash_log": 6, "target_length": 0}
# For the other planes, where only a few repeats can be found.
_MANTISSA = {"min_match": 5, "hash_log": 14, "target_length": 0}


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.compressors: dict[object, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()
        self._planes: dict[int, bytearray] = {}

    def plane(self, number: int, count: int) -> memoryview:
        """Return this thread's buffer for plane `number` of a chunk; valid until the next call with that number."""
        room = self._planes.get(number, b"")
        if len(room) < count:
            room = self._planes[number] = bytearray(count)
        return memoryview(room)[:count]


_per_thread = _PerThread()


def _reuse_level(level: int) -> zstandard.ZstdCompressor:
    compressor = _per_thread.compressors.get(level)
    if compressor is None:
        # With the checksum the standard tool `zstd -t` finds damage without our index.
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
        _per_thread.compressors[level] = compressor
    return compressor


def _reuse_compressor(parameters: dict[str, int]) -> zstandard.ZstdCompressor:
    key = tuple(parameters.values())
    compressor = _per_thread.compressors.get(key)
    if compressor is None:
        chosen = zstandard.ZstdCompressionParameters.from_level(1, write_content_size=1, **parameters)
        compressor = zstandard.ZstdCompressor(compression_params=chosen)
        _per_thread.compressors[key] = compressor
    return compressor


def _decode_frame(frame: memoryview, room: memoryview) -> None:
    """Decode exactly one frame straight into `room`, which its content must fill exactly."""
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size != len(room):
            raise FormatError(f"frame header says {parameters.content_size} bytes, expected {len(room)}")
        with _per_thread.decompressor.stream_reader(frame) as reader:
            if reader.readinto(room) != len(room) or reader.read(1):
                raise FormatError(f"frame does not decode to {len(room)} bytes: it is cut short")
    except zstandard.ZstdError as error:
        raise FormatError(f"frame does not decode: {error}") from error


@dataclass(frozen=True)
class Codec:
    """One way to store a chunk.

    Attributes:
        number: Its number in chunk records.
        name: Its name for people.
        width: Bytes per word; a chunk's raw size is a multiple of it.
        encode: (raw bytes, level, room) -> frames, to be written one after the other. `room` is a buffer of
            `room_bytes`; frames may be views into it, so it must not be changed until they are written.
        decode: (frames, expected raw length, room) -> raw bytes. `room` is a buffer of at least that length; the
            result may be a view into it.
    """

    number: int
    name: str
    width: int
    encode: Callable[[memoryview, int, memoryview], list[Buffer]]
    decode: Callable[[memoryview, int, memoryview], Buffer]


@dataclass(frozen=True)
class DifferenceCodec:
    """One way to store a chunk as its difference from a base's bytes.

    Attributes:
        number: Its number in chunk records.
        name: Its name for people.
        width: Bytes per word; a chunk's raw size is a multiple of it.
        is_sorted: Whether differences stand sorted by the exponents of the base.
    """

    number: int
    name: str
    width: int
    is_sorted: bool

    def encode(self, raw: memoryview, base: memoryview) -> list[Buffer]:
        """Return the frames of the difference of `raw` from `base`, which is as long."""
        whole = [_per_thread.plane(number, len(raw) // self.width) for number in range(self.width)]
        if self.is_sorted:
            chosen_way().split_sorted(raw, base, whole)
        else:
            chosen_way().split_differences(raw, base, [_blocks(plane) for plane in whole])
        return [_encode_difference(plane) for plane in whole]

    def decode(self, stored: memoryview, base: memoryview, raw_bytes: int, room: memoryview) -> Buffer:
        """Return the bytes that differ from `base`, which is as long, by what is stored; a view into `room`.

        Raises:
            FormatError: The frames are not valid, or decode to another length.
        """
        raw = room[:raw_bytes]
        if not self.is_sorted:
            chosen_way().merge_differences(_read_planes(stored, raw_bytes, self.width), base, raw)
            return raw
        planes = _plane_rooms(raw_bytes, self.width)
        for frame, plane in zip(_cut_frames(stored, raw_bytes, self.width), planes, strict=True):
            _decode_frame(frame, plane)
        chosen_way().merge_sorted(planes, base, raw)
        return raw


def encode_difference(raw: memoryview, base: memoryview, width: int) -> tuple[DifferenceCodec, list[Buffer]]:
    """Return the codec for the difference of `raw` from `base`, which is as long, and its frames."""
    codec = DIFFERENCES_BY_WIDTH[width]
    # In fp32 there is less to gain, since most of it is noise: 4 %, for almost twice the time.
    if width == SORTED2.width and chosen_way().count_equal(raw, base) < _MOSTLY_EQUAL * (len(raw) // width):
        codec = SORTED2
    return codec, codec.encode(raw, base)


def room_bytes(raw_bytes: int) -> int:
    """Return how many bytes of room `encode` may need for a chunk: all of its planes as stored frames."""
    return (
        raw_bytes
        + _MAX_WIDTH * (HEADER_BYTES + BLOCK_HEADER_BYTES)
        + raw_bytes // BLOCK_BYTES * BLOCK_HEADER_BYTES
    )


def _encode_zstd(raw: memoryview, level: int, room: memoryview) -> list[Buffer]:
    return [_reuse_level(level).compress(raw)]


def _encode_planes(raw: memoryview, level: int, room: memoryview, width: int) -> list[Buffer]:
    count = len(raw) // width
    size = stored_frame_bytes(count)
    frames = [room[start : start + size] for start in range(0, width * size, size)]
    places = [lay_out_stored_frame(frame, count) for frame in frames]
    # The low plane of 16-bit words is noise in almost all files, so it is written as a stored frame at once. The other
    # planes go to buffers that a compressor can read in one piece.
    whole = [_per_thread.plane(number, count) for number in range(1 if width == 2 else width)]
    chosen_way().split(raw, [*map(_blocks, whole), *places[len(whole) :]])
    encoded: list[Buffer] = []
    for number, (frame, blocks) in enumerate(zip(frames, places, strict=True)):
        ways: list[Buffer] = []
        if number == 0:
            if length := _encode_exponents(whole[0], frame):
                encoded.append(frame[:length])
                continue
            # Some of it may have been written.
            lay_out_stored_frame(frame, count)
            ways = [_reuse_compressor(_EXPONENTS).compress(whole[0])]
        elif number < len(whole) or _is_worthwhile(_reuse_compressor(_MANTISSA).compress(blocks[0]), blocks[0]):
            # In fp32 the low planes are noise in one tensor and zeros in the next, so all are tried. For 16-bit words
            # the first block shows whether compression gains anything.
            plane = whole[number] if number < len(whole) else b"".join(blocks)
            ways = [_reuse_compressor(_MANTISSA).compress(plane)]
            if _is_worthwhile(ways[0], plane):
                ways.append(_reuse_level(level).compress(plane))
        ways.append(frame)
        best = min(ways, key=len)
        if best is frame and number < len(whole):
            for place, block in zip(blocks, _blocks(whole[number]), strict=True):
                place[:] = block
        encoded.append(best)
    return encoded


def _encode_exponents(plane: memoryview, frame: memoryview) -> int:
    """Write literals alone, and return the frame's length; 0 where zstd's own coder is to have the plane."""
    length = chosen_way().encode_exponents(plane, frame)
    if not length:
        return 0
    # In runs and repeats, such as a mask has, zstd finds matches. The first block shows those that are all over the
    # plane; large ones, wherever they are, the code has found.
    with_matches = _reuse_compressor(_EXPONENTS).compress(plane[:BLOCK_BYTES])
    return length if len(with_matches) >= _MATCHES_GAIN * first_block_end(frame) else 0


def _blocks(plane: memoryview) -> list[memoryview]:
    return [plane[start : start + BLOCK_BYTES] for start in range(0, len(plane), BLOCK_BYTES)]


def _is_worthwhile(compressed: Buffer, content: Buffer) -> bool:
    return len(compressed) < _WORTHWHILE * len(content)


def _decode_zstd(stored: memoryview, raw_bytes: int, room: memoryview) -> Buffer:
    if (length := frame_bytes(stored, raw_bytes)) != len(stored):
        raise FormatError(f"{len(stored) - length} bytes follow the frame")
    raw = room[:raw_bytes]
    _decode_frame(stored, raw)
    return raw


def _encode_difference(plane: memoryview) -> Buffer:
    compressed = _reuse_compressor(_EXPONENTS).compress(plane)
    # The low planes of fp32 are noise where much was trained.
    return compressed if _is_worthwhile(compressed, plane) else stored_frame(plane)


def _decode_planes(stored: memoryview, raw_bytes: int, room: memoryview, width: int) -> Buffer:
    raw = room[:raw_bytes]
    chosen_way().merge(_read_planes(stored, raw_bytes, width), raw)
    return raw


def _read_planes(stored: memoryview, raw_bytes: int, width: int) -> list[list[memoryview]]:
    """Return the planes of a chunk as lists of blocks, which are valid until this thread decodes another chunk."""
    decoded: list[list[memoryview]] = []
    for frame, plane in zip(_cut_frames(stored, raw_bytes, width), _plane_rooms(raw_bytes, width), strict=True):
        blocks = stored_blocks(frame)
        if blocks is None or sum(map(len, blocks)) != len(plane):
            _decode_frame(frame, plane)
            blocks = _blocks(plane)
        decoded.append(blocks)
    return decoded


def _cut_frames(stored: memoryview, raw_bytes: int, width: int) -> list[memoryview]:
    """Return the frames of a chunk's planes."""
    if raw_bytes % width:
        raise FormatError(f"{raw_bytes} bytes are not a whole number of {width}-byte words")
    frames: list[memoryview] = []
    position = 0
    for _ in range(width):
        end = position + frame_bytes(stored[position:], raw_bytes // width)
        frames.append(stored[position:end])
        position = end
    if position != len(stored):
        raise FormatError(f"{len(stored) - position} bytes follow the last plane")
    return frames


def _plane_rooms(raw_bytes: int, width: int) -> list[memoryview]:
    """Return a buffer for each plane of a chunk, valid until the next call on this thread."""
    count = raw_bytes // width
    if count <= _KEPT_BYTES:
        return [_per_thread.plane(number, count) for number in range(width)]
    # Too long to be kept: in one piece, which the C library gives back to the system at once.
    whole = memoryview(bytearray(raw_bytes))
    return [whole[number * count :][:count] for number in range(width)]


def _planes_codec(number: int, width: int) -> Codec:
    return Codec(
        number,
        f"planes{width}",
        width,
        lambda raw, level, room: _encode_planes(raw, level, room, width),
        lambda stored, raw_bytes, room: _decode_planes(stored, raw_bytes, room, width),
    )


ZSTD = Codec(0, "zstd", 1, _encode_zstd, _decode_zstd)
PLANES2 = _planes_codec(1, 2)
PLANES4 = _planes_codec(2, 4)
CODECS = {codec.number: codec for codec in (ZSTD, PLANES2, PLANES4)}
BY_WIDTH = {codec.width: codec for codec in CODECS.values()}
DIFFERENCE2 = DifferenceCodec(3, "difference2", 2, is_sorted=False)
DIFFERENCE4 = DifferenceCodec(4, "difference4", 4, is_sorted=False)
SORTED2 = DifferenceCodec(5, "sorted2", 2, is_sorted=True)
DIFFERENCES = {codec.number: codec for codec in (DIFFERENCE2, DIFFERENCE4, SORTED2)}
DIFFERENCES_BY_WIDTH = {codec.width: codec for codec in (DIFFERENCE2, DIFFERENCE4)}
_KNOWN: dict[int, Codec | DifferenceCodec] = {**CODECS, **DIFFERENCES}


def is_difference(number: int) -> bool:
    """Tell whether a chunk with this codec is stored as its difference from a base."""
    return number in DIFFERENCES


def find_codec(number: int) -> Codec | DifferenceCodec:
    """Return the codec with this number.

    Raises:
        FormatError: This version has no codec with this number.
    """
    try:
        return _KNOWN[number]
    except KeyError:
        raise FormatError(
            f"chunk has codec {number}, known are {', '.join(f'{c.number} ({c.name})' for c in _KNOWN.values())}",
            hint="a newer `bundle` wrote it: install that version here",
        ) from None
