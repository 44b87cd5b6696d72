"""Codecs: the raw bytes of one chunk to zstd frames and back (FORMAT.md, "Codecs").

A codec is named by a number in the chunk's record. Its frames are zstd frames whatever it is, so that `zstd -t`
passes on every bundle; only with codec `zstd` do they decode to the tar stream itself.

Compressors are costly to make and not safe to share, so each thread keeps its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from bundler.errors import FormatError

# zstd's own default: on text and vocabularies higher levels gain a few percent for several times the time, and
# weights gain nothing from them.
DEFAULT_LEVEL = 3


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_per_thread = _PerThread()


@dataclass(frozen=True)
class Codec:
    """One way to store a chunk.

    Attributes:
        number: What the chunk record says.
        name: What people say.
        encode: (raw bytes, level) -> stored bytes.
        decode: (stored bytes, expected raw length) -> raw bytes.
    """

    number: int
    name: str
    encode: Callable[[bytes | memoryview, int], bytes]
    decode: Callable[[bytes | memoryview, int], bytes]


def _zstd_encode(raw: bytes | memoryview, level: int) -> bytes:
    compressor = _per_thread.compressors.get(level)
    if compressor is None:
        # The checksum lets stock `zstd -t` find damage without our index.
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
        _per_thread.compressors[level] = compressor
    return compressor.compress(raw)


def _zstd_decode(stored: bytes | memoryview, raw_bytes: int) -> bytes:
    try:
        parameters = zstandard.get_frame_parameters(stored)
        if parameters.content_size != raw_bytes:
            raise FormatError(f"frame says {parameters.content_size} bytes, its chunk record {raw_bytes}")
        return _per_thread.decompressor.decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"frame does not decode: {error}") from error


ZSTD = Codec(0, "zstd", _zstd_encode, _zstd_decode)
CODECS = {codec.number: codec for codec in (ZSTD,)}


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
