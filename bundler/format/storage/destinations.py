"""Where a bundle goes while it is written: a file, volumes, or a pipe.

Rule book:

* a writer only appends; what a destination must know of the whole, it fills in at the end;
* a file or a volume appears under its name only when the bundle is whole: until then its name is a temporary one;
* what an earlier run left under the same names, and would be taken for a part of the new bundle, is removed; so is
  what a killed run left half-written beside it.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from bundler.errors import OutputError, UsageError
from bundler.files.atomic import atomic_writer, fsync_dir, temporary_path
from bundler.files.digest import Hasher
from bundler.files.leftovers import remove_leftovers
from bundler.files.uncached_file import BUFFER_BYTES, UncachedFile
from bundler.format.index import (
    CHUNK_HEADER_BYTES,
    PREAMBLE,
    TRAILER_BYTES,
    is_index_frame,
    parse_chunk_header,
)
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader, is_volume_head
from bundler.format.storage.volumes import volume_files, volume_path


class Sink(Protocol):
    """What a bundle is written to, front to back."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        """Append all of `data`."""

    def tell(self) -> int:
        """Return how many bytes of the bundle were written."""


class Destination(Protocol):
    """Where a bundle goes.

    Attributes:
        path: What to call it.
    """

    path: Path

    def open(self) -> AbstractContextManager[Sink]:
        """Open it; the bundle is there once the block ends without an error."""


class FileDestination:
    """One file.

    Args:
        path: The file; one that exists is replaced.
        sole: Remove volumes of that name too: they are of an older run.
    """

    def __init__(self, path: Path, *, sole: bool = True) -> None:
        self.path = path
        self._sole = sole

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open a temporary file, and rename it at the end (see `Destination`)."""
        remove_leftovers(self.path.parent, now=time.time(), below=False)
        with atomic_writer(self.path) as stream:
            yield stream
        if self._sole:
            _remove_volumes(self.path, keep=[])


class PipeDestination:
    """A pipe, or whatever else takes bytes in order.

    Args:
        descriptor: Where to write; stays open.
    """

    def __init__(self, descriptor: int) -> None:
        self.path = Path("-")
        self._descriptor = descriptor
        self._written = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[PipeDestination]:
        """Write straight on: who reads it knows by the index at the end that it is whole (see `Destination`)."""
        yield self

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append all of `data`.

        Raises:
            OutputError: Nobody reads any more.
        """
        view = memoryview(data).cast("B")
        while view:
            try:
                count = os.write(self._descriptor, view)
            except BrokenPipeError as error:
                raise OutputError(
                    f"standard output was closed by its reader after {self._written:,} bytes; the bundle did not "
                    "get through",
                    hint="see what the reading command says; what was fetched is kept",
                ) from error
            self._written += count
            view = view[count:]

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._written


class VolumeDestination:
    """Volumes of limited size.

    Args:
        path: Their name, without a number.
        limit_bytes: What no volume may be longer than.
        sole: Remove a bundle file of that name too: it is of an older run.
    """

    def __init__(self, path: Path, limit_bytes: int, *, sole: bool = True) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self.volumes: list[Path] = []
        self._sole = sole

    @contextlib.contextmanager
    def open(self) -> Iterator[VolumeSink]:
        """Open temporary files one after the other, and rename them at the end (see `Destination`)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path.parent, now=time.time(), below=False)
        sink = VolumeSink(self.path.parent, self.limit_bytes)
        try:
            yield sink
            finished = sink.finish()
            names = [volume_path(self.path, number, len(finished)) for number in range(1, len(finished) + 1)]
            for temporary, name in zip(finished, names, strict=True):
                temporary.replace(name)
        finally:
            sink.discard()
        _remove_volumes(self.path, keep=names)
        if self._sole and _is_bundle_file(self.path):
            self.path.unlink()
        fsync_dir(self.path.parent)
        self.volumes = names


class VolumeSink:
    """Cuts a bundle between its chunks, so that each volume is a zstd file of its own.

    Volume headers name the bundle's digest and the number of volumes. Both are known at the end only: room is kept
    for them, and `finish` fills it.

    Args:
        folder: Where temporary files are made.
        limit_bytes: What no file may be longer than.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._written = 0
        # Of the chunk or index being written: its first bytes until its length is known, then what is left of it.
        self._head = b""
        self._left = 0
        self._tail = b""
        self._files: list[_File] = []

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append all of `data`.

        Raises:
            UsageError: A chunk, or the index, is longer than a volume may be.
        """
        view = memoryview(data).cast("B")
        self._tail = (self._tail + bytes(view[-TRAILER_BYTES:]))[-TRAILER_BYTES:]
        skipped = max(min(len(PREAMBLE) - self._written, len(view)), 0)
        self._written += len(view)
        view = view[skipped:]
        while view:
            if self._left == 0:
                count = CHUNK_HEADER_BYTES - len(self._head)
                self._head += bytes(view[:count])
                view = view[count:]
                if len(self._head) == CHUNK_HEADER_BYTES:
                    self._begin(self._head)
                    self._head = b""
            else:
                part = view[: self._left]
                self._files[-1].write(part)
                self._left -= len(part)
                view = view[len(part) :]

    def tell(self) -> int:
        """Return how many bytes of the bundle were written; volume headers are not counted."""
        return self._written

    def finish(self) -> list[Path]:
        """Complete the volumes.

        Returns:
            Their temporary names, in order.
        """
        assert self._left == 0 and not self._head and self._files, "a bundle ends behind its index"
        self._files[-1].close()
        start = len(PREAMBLE)
        for number, file in enumerate(self._files, 1):
            file.complete(
                VolumeHeader(
                    number=number,
                    count=len(self._files),
                    start=start,
                    part_bytes=file.part_bytes,
                    bundle_bytes=self._written,
                    # The trailer of an index starts with the digest of the bundle.
                    bundle_sha256=self._tail[:32],
                    part_blake3=file.blake3,
                )
            )
            start += file.part_bytes
        return [file.path for file in self._files]

    def discard(self) -> None:
        """Delete what still has its temporary name."""
        for file in self._files:
            file.discard()

    def _begin(self, head: bytes) -> None:
        if is_index_frame(head):
            length = 8 + int(struct.unpack_from("<I", head, 4)[0])
        else:
            length = CHUNK_HEADER_BYTES + parse_chunk_header(head).stored_bytes
        if VOLUME_HEAD_BYTES + length > self._limit:
            raise UsageError(
                f"a volume of {self._limit:,} bytes is too small: this bundle has a piece that needs "
                f"{VOLUME_HEAD_BYTES + length:,}",
                hint="choose a larger --volume-size",
            )
        if not self._files or self._files[-1].part_bytes + VOLUME_HEAD_BYTES + length > self._limit:
            if self._files:
                self._files[-1].close()
            self._files.append(_File(temporary_path(self._folder)))
        self._files[-1].write(head)
        self._left = length - len(head)


class _File:
    """One volume on its way, under a temporary name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part_bytes = 0
        self.blake3 = b""
        self._hasher = Hasher(("blake3",), size_bytes=0)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._file = UncachedFile(descriptor, "wb")
        self._stream = io.BufferedWriter(self._file, BUFFER_BYTES)
        self._stream.write(bytes(VOLUME_HEAD_BYTES))

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._hasher.update(data)
        self.part_bytes += len(data)

    def close(self) -> None:
        """Close it; to close it again does nothing."""
        if not self._stream.closed:
            self._stream.flush()
            self._file.sync()
            self._stream.close()
            self.blake3 = bytes.fromhex(self._hasher.result().blake3 or "")

    def discard(self) -> None:
        # What cannot be written any more is not wanted any more.
        with contextlib.suppress(OSError):
            self._stream.close()
        self.path.unlink(missing_ok=True)

    def complete(self, header: VolumeHeader) -> None:
        with self.path.open("r+b") as stream:
            stream.write(header.pack())
            stream.flush()
            os.fsync(stream.fileno())


def _remove_volumes(base: Path, *, keep: list[Path]) -> None:
    """Delete the volumes of a name that are left from an older run; other files of such names stay."""
    for path in volume_files(base):
        if path not in keep and _is_volume(path):
            path.unlink()


def _is_volume(path: Path) -> bool:
    # By its first bytes alone: half a volume is to go too.
    return is_volume_head(_first_bytes(path))


def _is_bundle_file(path: Path) -> bool:
    return _first_bytes(path).startswith(PREAMBLE)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(VOLUME_HEAD_BYTES)
    except OSError:
        return b""
