"""Open a file, compressed or not, as a stream of plain bytes that is read block by block.

A compressed file that ends too early is an error, even where a library would accept it.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from infini_llama.errors import TrainingDataError

SUFFIXES = (".gz", ".zst", ".xz", ".bz2")
# Compressed bytes to read at once; all that they unpack to is in memory.
_BLOCK_BYTES = 1 << 14
# The largest window, that of `zstd --long=31`.
_LARGEST_WINDOW_BYTES = 1 << 31


@contextlib.contextmanager
def open_plain(path: Path, compression: str) -> Iterator[BinaryIO]:
    """Open a file for reading.

    Args:
        path: The file.
        compression: One of `SUFFIXES`, or empty.

    Raises:
        TrainingDataError: It cannot be read, has another format, or ends too early; also raised inside the block.
    """
    try:
        with _open(path, compression) as stream:
            yield stream
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile) as error:
        raise TrainingDataError(
            f"{path}: expected a whole {compression} file: {error}", hint="copy or make it again"
        ) from error
    except OSError as error:
        # bz2 raises a plain OSError for a file that is not bz2.
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _open(path: Path, compression: str) -> BinaryIO:
    if compression == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if compression == ".bz2":
        return cast(BinaryIO, bz2.open(path))
    if compression == ".xz":
        return cast(BinaryIO, lzma.open(path))
    if compression == ".zst":
        return io.BufferedReader(_ZstdStream(path))
    return path.open("rb")


class _ZstdStream(io.RawIOBase):
    """A zstd file of one or more frames; the library's own stream accepts one that is cut short."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._blocks = _unpack(self._file)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _unpack(file: BinaryIO) -> Iterator[bytes]:
    frame = None
    while block := file.read(_BLOCK_BYTES):
        while block:
            if frame is None:
                frame = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW_BYTES).decompressobj()
            yield frame.decompress(block)
            block = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("it ends inside a frame")
