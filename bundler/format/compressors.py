"""zstd compressors, set up once for each thread: they are costly to make and not safe to share."""

from __future__ import annotations

import sys
import threading
from typing import Any

import zstandard

from bundler.format.buffers import Buffer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# For the plane of exponents, whose bytes are independent. What compresses it is zstd's entropy coder; matches are of
# use where all is zeros, or rows come again. So only every 64th place, about, is looked at: it is as good as any in a
# long match. The short ones that looking everywhere finds cost more than the literals that they replace.
_EXPONENTS = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.min_match: 7,
    zstd.CompressionParameter.hash_log: 6,
    zstd.CompressionParameter.target_length: 64,
}
# ZSTD_c_literalCompressionMode in zstd.h's experimental part, and ZSTD_ps_enable: left to itself, zstd does without
# its entropy coder where it skips places. The `zstandard` package has no name for it, this one takes numbers.
_ENTROPY_CODER = {1002: 1}
# The same by what is not experimental: a third slower, and blind for rows that come again.
_EXPONENTS_PLAIN = {"min_match": 7, "hash_log": 6, "target_length": 0}
# For the other planes, where a few repeats are all there is to find.
_MANTISSA = {"min_match": 5, "hash_log": 14, "target_length": 0}


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.at_level: dict[int, zstandard.ZstdCompressor] = {}
        self.exponents: Any = None
        self.mantissa: zstandard.ZstdCompressor | None = None


_per_thread = _PerThread()


def compress(content: Buffer, level: int) -> bytes:
    """Return a zstd frame of any content."""
    compressor = _per_thread.at_level.get(level)
    if compressor is None:
        # The checksum lets stock `zstd -t` find damage without our index.
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
        _per_thread.at_level[level] = compressor
    return compressor.compress(content)


def compress_exponents(plane: Buffer) -> bytes:
    """Return a zstd frame of a plane of exponents."""
    if _per_thread.exponents is None:
        try:
            _per_thread.exponents = zstd.ZstdCompressor(options=_EXPONENTS | _ENTROPY_CODER)
        except (ValueError, zstd.ZstdError):  # a zstd to come may number it otherwise
            _per_thread.exponents = _tuned(_EXPONENTS_PLAIN)
    compressor = _per_thread.exponents
    if isinstance(compressor, zstandard.ZstdCompressor):
        return compressor.compress(plane)
    frame: bytes = compressor.compress(plane, mode=zstd.ZstdCompressor.FLUSH_FRAME)
    return frame


def compress_mantissa(plane: Buffer) -> bytes:
    """Return a zstd frame of any other plane."""
    if _per_thread.mantissa is None:
        _per_thread.mantissa = _tuned(_MANTISSA)
    return _per_thread.mantissa.compress(plane)


def _tuned(parameters: dict[str, int]) -> zstandard.ZstdCompressor:
    chosen = zstandard.ZstdCompressionParameters.from_level(1, write_content_size=1, **parameters)
    return zstandard.ZstdCompressor(compression_params=chosen)
