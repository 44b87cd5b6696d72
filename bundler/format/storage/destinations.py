"""Where a bundle is written to: a file, volumes, or a pipe.

Rule book:

* a writer only appends; a destination fills in at the end what depends on the whole bundle;
* a file or a volume gets its final name only when the bundle is complete; until then it has a temporary name;
* files of an earlier run under the same names, which could be taken for parts of the new bundle, are removed; so are
  half-written files of a killed run beside it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from bundler.errors import OutputError, UsageError
from bundler.files.atomic import atomic_writer, fsync_dir, temporary_path
from bundler.files.digest import Hasher
from bundler.files.leftovers import remove_leftovers
from bundler.files.uncached_file import LargeWriter, UncachedFile
from bundler.format.index import (
    CHUNK_HEADER_BYTES,
    PREAMBLE,
    TRAILER_BYTES,
    is_index_frame,
    parse_chunk_header,
)
from bundler.format.storage.volume_cut import VolumeCut
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader, is_volume_head
from bundler.format.storage.volume_names import volume_files, volume_path


class Sink(Protocol):
    """What a bundle is written to, front to back."""

    def write(self, data: bytes | bytearray | memoryview, /) -> object:
        """Append all of `data`."""

    def tell(self) -> int:
        """Return how many bytes of the bundle have been written."""


class Destination(Protocol):
    """Where a bundle goes.

    Attributes:
        path: Its path or name, for messages.
    """

    path: Path

    def open(self) -> AbstractContextManager[Sink]:
        """Open it for writing; the bundle is complete when the block ends without an error."""

    def replaces(self) -> list[Path]:
        """Return the files that stand there, and that are replaced or deleted once the bundle is whole."""


class FileDestination:
    """One file.

    Args:
        path: The file; one that exists is replaced.
        sole: Whether to remove volumes of the same name, which are from an earlier run.
    """

    def __init__(self, path: Path, *, sole: bool = True) -> None:
        self.path = path
        self._sole = sole

    @contextlib.contextmanager
    def open(self) -> Iterator[Sink]:
        """Open a temporary file, and rename it when the block ends (see `Destination`)."""
        remove_leftovers(self.path.parent, now=time.time(), below=False)
        with atomic_writer(self.path) as stream:
            yield stream
        if self._sole:
            _remove_volumes(self.path, keep=[])

    def replaces(self) -> list[Path]:
        """Return the file, and volumes of its name (see `Destination`)."""
        there = [self.path] if os.path.lexists(self.path) else []
        return [*there, *(_list_volumes(self.path) if self._sole else [])]


class PipeDestination:
    """A pipe, or anything else that bytes can be written to in order.

    Args:
        descriptor: File descriptor to write to; it stays open.
    """

    def __init__(self, descriptor: int) -> None:
        self.path = Path("-")
        self._descriptor = descriptor
        self._written = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[PipeDestination]:
        """Write directly to the pipe; the index at the end shows its reader that the bundle is complete."""
        yield self

    def replaces(self) -> list[Path]:
        """Return nothing (see `Destination`)."""
        return []

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append all of `data`.

        Raises:
            OutputError: The reader has closed the pipe.
        """
        view = memoryview(data).cast("B")
        while view:
            try:
                count = os.write(self._descriptor, view)
            except BrokenPipeError as error:
                raise OutputError(
                    f"standard output was closed by its reader after {self._written:,} bytes; the bundle there "
                    "is incomplete",
                    hint="see what the reading command printed; fetched files are kept",
                ) from error
            self._written += count
            view = view[count:]

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._written


class VolumeDestination:
    """Volumes of limited size.

    Args:
        path: Their common name, without a number.
        limit_bytes: The longest that a volume may be.
        sole: Whether to remove a bundle file of the same name, which is from an earlier run.
    """

    def __init__(self, path: Path, limit_bytes: int, *, sole: bool = True) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self.volumes: list[Path] = []
        self._sole = sole

    @contextlib.contextmanager
    def open(self) -> Iterator[VolumeSink]:
        """Open temporary files one after the other, and rename them when the block ends (see `Destination`)."""
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

    def replaces(self) -> list[Path]:
        """Return volumes of the name, and a bundle file of it (see `Destination`)."""
        whole = [self.path] if self._sole and _is_bundle_file(self.path) else []
        return [*whole, *_list_volumes(self.path)]


class VolumeSink:
    """Cuts a bundle between its chunks, so that each volume is itself a valid zstd file.

    Volume headers hold the bundle's digest and the number of volumes. Both are known only at the end: space is left for
    them, and `finish` fills it.

    Args:
        folder: Folder for the temporary files.
        limit_bytes: The longest that a file may be.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._cut = VolumeCut(limit_bytes)
        self._written = 0
        # For the chunk or index that is being written: its first bytes until its length is known, then the bytes left.
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
        """Delete the files that still have temporary names."""
        for file in self._files:
            file.discard()

    def _begin(self, head: bytes) -> None:
        if is_index_frame(head):
            length = 8 + int(struct.unpack_from("<I", head, 4)[0])
        else:
            length = CHUNK_HEADER_BYTES + parse_chunk_header(head).stored_bytes
        if self._cut.add(length):
            if self._files:
                self._files[-1].close()
            self._files.append(_File(temporary_path(self._folder)))
        self._files[-1].write(head)
        self._left = length - len(head)


class _File:
    """A volume that is being written, under a temporary name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part_bytes = 0
        self.blake3 = b""
        self._hasher = Hasher(("blake3",), size_bytes=0)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._file = UncachedFile(descriptor)
        self._stream = LargeWriter(self._file)
        self._stream.write(bytes(VOLUME_HEAD_BYTES))

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._hasher.update(data)
        self.part_bytes += len(data)

    def close(self) -> None:
        """Close it; closing it again does nothing."""
        if not self._file.closed:
            self._stream.flush()
            self._file.sync()
            self._file.close()
            self.blake3 = bytes.fromhex(self._hasher.result().blake3 or "")

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def complete(self, header: VolumeHeader) -> None:
        with self.path.open("r+b") as stream:
            stream.write(header.pack())
            stream.flush()
            os.fsync(stream.fileno())


def _remove_volumes(base: Path, *, keep: list[Path]) -> None:
    """Delete the volumes of a name that are left from an older run; other files of such names stay."""
    for path in _list_volumes(base):
        if path not in keep:
            path.unlink()


def _list_volumes(base: Path) -> list[Path]:
    # By their first bytes alone: half a volume is to go too.
    return [path for path in volume_files(base) if is_volume_head(_read_first_bytes(path))]


def _is_bundle_file(path: Path) -> bool:
    return _read_first_bytes(path).startswith(PREAMBLE)


def _read_first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(VOLUME_HEAD_BYTES)
    except OSError:
        return b""


def choose_destination(out: Path | PipeDestination, volume_bytes: int | None) -> Destination:
    """Return where a bundle goes: to one file, to volumes of a size, or to a pipe.

    Raises:
        UsageError: Volumes should go to a pipe, or `volume_bytes` is too small.
    """
    if isinstance(out, Path):
        return FileDestination(out) if volume_bytes is None else VolumeDestination(out, volume_bytes)
    if volume_bytes is not None:
        raise UsageError("volumes cannot be written to a pipe", hint="write volumes to files")
    return out
