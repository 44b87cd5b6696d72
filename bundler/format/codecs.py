"""Codecs: the raw bytes of one chunk to zstd frames and back (FORMAT.md, "Codecs").

A codec is named by a number in the chunk's record. Its frames are zstd frames whatever it is, so that `zstd -t`
passes on every bundle; only with codec `zstd` do they decode to the tar stream itself.

Compressors are costly to make and not safe to share, so each thread keeps its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import zstandard

from bundler.errors import FormatError
from bundler.format import planes
from bundler.format.frames import (
    BLOCK_BYTES,
    frame_bytes,
    lay_out_stored_frame,
    stored_blocks,
    stored_frame_bytes,
)

Buffer = bytes | bytearray | memoryview
CodecChoice = Literal["auto", "zstd"]

# zstd's own default: on text and vocabularies higher levels gain a few percent for several times the time, and
# weights gain nothing from them.
DEFAULT_LEVEL = 3

# Compressing that gains less than this is not looked into further.
_WORTHWHILE = 0.99

# For the plane of exponents, whose bytes are independent: long matches only, and hardly a table to look for them in.
# What is left is zstd's entropy coder, which reaches the entropy of the bytes; plain level 1 finds short matches
# instead, which cost more than the literals they replace.
_EXPONENTS = {"min_match": 7, "hash_log": 6, "target_length": 0}
# For the other planes, where a few repeats are all there is to find.
_MANTISSA = {"min_match": 5, "hash_log": 14, "target_length": 0}


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.compressors: dict[object, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_per_thread = _PerThread()


def _at_level(level: int) -> zstandard.ZstdCompressor:
    compressor = _per_thread.compressors.get(level)
    if compressor is None:
        # The checksum lets stock `zstd -t` find damage without our index.
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
        _per_thread.compressors[level] = compressor
    return compressor


def _tuned(parameters: dict[str, int]) -> zstandard.ZstdCompressor:
    key = tuple(parameters.values())
    compressor = _per_thread.compressors.get(key)
    if compressor is None:
        chosen = zstandard.ZstdCompressionParameters.from_level(1, write_content_size=1, **parameters)
        compressor = zstandard.ZstdCompressor(compression_params=chosen)
        _per_thread.compressors[key] = compressor
    return compressor


def _decode_frame(frame: Buffer, content_bytes: int) -> bytes:
    """Decode exactly one frame of exactly this content size."""
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size != content_bytes:
            raise FormatError(f"frame says {parameters.content_size} bytes, expected {content_bytes}")
        return _per_thread.decompressor.decompress(frame, max_output_size=content_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"frame does not decode: {error}") from error


@dataclass(frozen=True)
class Codec:
    """One way to store a chunk.

    Attributes:
        number: What the chunk record says.
        name: What people say.
        width: Bytes per word; a chunk's raw size is a multiple of it.
        encode: (raw bytes, level) -> frames, to be written one after the other.
        decode: (frames, expected raw length) -> raw bytes.
    """

    number: int
    name: str
    width: int
    encode: Callable[[memoryview, int], list[Buffer]]
    decode: Callable[[memoryview, int], Buffer]


def _encode_zstd(raw: memoryview, level: int) -> list[Buffer]:
    return [_at_level(level).compress(raw)]


def _encode_planes(raw: memoryview, level: int, width: int) -> list[Buffer]:
    count = len(raw) // width
    # Planes are laid out as stored frames at once: those that do not compress need no second look.
    frames = [memoryview(bytearray(stored_frame_bytes(count))) for _ in range(width)]
    places = [lay_out_stored_frame(frame, count) for frame in frames]
    planes.split(raw, places)
    encoded: list[Buffer] = []
    for number, (frame, blocks) in enumerate(zip(frames, places, strict=True)):
        ways: list[Buffer] = []
        if number == 0:
            ways = [_tuned(_EXPONENTS).compress(_joined(blocks))]
        elif width > 2 or _is_worthwhile(_tuned(_MANTISSA).compress(blocks[0]), blocks[0]):
            # In fp32 the low planes are noise in one tensor and zeros in the next: all are tried. The low plane of
            # 16-bit words is noise but for odd files: its first block tells.
            plane = _joined(blocks)
            ways = [_tuned(_MANTISSA).compress(plane)]
            if _is_worthwhile(ways[0], plane):
                ways.append(_at_level(level).compress(plane))
        ways.append(frame)
        encoded.append(min(ways, key=len))
    return encoded


def _joined(blocks: list[memoryview]) -> Buffer:
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _is_worthwhile(compressed: Buffer, content: Buffer) -> bool:
    return len(compressed) < _WORTHWHILE * len(content)


def _decode_planes(stored: memoryview, raw_bytes: int, width: int) -> Buffer:
    if raw_bytes % width:
        raise FormatError(f"{raw_bytes} bytes are no whole number of {width}-byte words")
    count = raw_bytes // width
    decoded: list[list[memoryview]] = []
    position = 0
    for _ in range(width):
        end = position + frame_bytes(stored[position:])
        frame = stored[position:end]
        blocks = stored_blocks(frame)
        if blocks is None or sum(map(len, blocks)) != count:
            plane = memoryview(_decode_frame(frame, count))
            blocks = [plane[start : start + BLOCK_BYTES] for start in range(0, count, BLOCK_BYTES)]
        decoded.append(blocks)
        position = end
    if position != len(stored):
        raise FormatError(f"{len(stored) - position} bytes stand behind the last plane")
    raw = bytearray(raw_bytes)
    planes.merge(decoded, memoryview(raw))
    return raw


def _planes_codec(number: int, width: int) -> Codec:
    return Codec(
        number,
        f"planes{width}",
        width,
        lambda raw, level: _encode_planes(raw, level, width),
        lambda stored, raw_bytes: _decode_planes(stored, raw_bytes, width),
    )


ZSTD = Codec(0, "zstd", 1, _encode_zstd, _decode_frame)
PLANES2 = _planes_codec(1, 2)
PLANES4 = _planes_codec(2, 4)
CODECS = {codec.number: codec for codec in (ZSTD, PLANES2, PLANES4)}
BY_WIDTH = {codec.width: codec for codec in CODECS.values()}


def codec_numbered(number: int) -> Codec:
    """Return a codec by its number.

    Raises:
        FormatError: This version does not know it.
    """
    try:
        return CODECS[number]
    except KeyError:
        raise FormatError(
            f"chunk has codec {number}, known are {', '.join(f'{c.number} ({c.name})' for c in CODECS.values())}",
            hint="a newer `bundle` wrote it: install that version here",
        ) from None
