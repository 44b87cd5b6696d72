"""Files whose bytes are protected together, one file after the other, as one run of bytes."""

from __future__ import annotations

import contextlib
import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import and_
from pathlib import Path
from types import TracebackType
from typing import Self

from bundler.parity.grid import starts_of

_COPIED_BYTES = 1 << 20


@dataclass(frozen=True)
class ProtectedFile:
    """A file as it was when parity was made.

    Attributes:
        suffix: What stands behind the bundle's name: nothing, or the number of a volume, ``.001``.
        size_bytes: Its length.
    """

    suffix: str
    size_bytes: int

    def path(self, base: Path) -> Path:
        """Return where it is, beside a bundle of that name."""
        return base.with_name(base.name + self.suffix)


class FileRun:
    """Files that are read as one run; what is missing, or past the end of a file that was cut, reads as nothing.

    Args:
        base: The bundle's name, without a volume's number.
        files: What they were.
        cell_bytes: Each begins at a multiple of this; what is between them reads as zeros.
        places: Files that are not beside `base`, but have the same names.
        copy: A descriptor of a file, which the caller closes, in which all of them stand one after the other, instead
            of files of these names.
    """

    def __init__(
        self,
        base: Path,
        files: Sequence[ProtectedFile],
        cell_bytes: int,
        places: Sequence[Path] = (),
        copy: int | None = None,
    ) -> None:
        self.files = tuple(files)
        self.starts = starts_of([file.size_bytes for file in files], cell_bytes)
        elsewhere = {path.name: path for path in places}
        self.paths = [elsewhere.get(file.path(base).name, file.path(base)) for file in files]
        # Where each file's first byte is.
        self._offsets = [0] * len(self.files)
        if copy is None:
            self._descriptors = [open_regular(path) for path in self.paths]
        else:
            self._descriptors = [os.dup(copy) for _ in self.files]
            self._offsets = [0, *accumulate(file.size_bytes for file in self.files)][:-1]

    def read_cell(self, position: int, target: memoryview) -> bool:
        """Fill `target` with a cell, with zeros for what no file has; return whether all of it could be read."""
        found = self.locate(position, len(target))
        if found is None:
            target[:] = bytes(len(target))
            return True
        number, offset, count = found
        target[count:] = bytes(len(target) - count)
        return self.read_into(number, offset, target[:count])

    def read_into(self, number: int, offset: int, target: memoryview) -> bool:
        """Fill `target` with the bytes of a file from `offset`; return whether all of them could be read."""
        descriptor, done = self._descriptors[number], 0
        if descriptor is None:
            return False
        try:
            while done < len(target):
                # preadv(2) returns at most 2 GiB less a page, and less than asked for on some network file systems.
                count = os.preadv(descriptor, [target[done:]], self._offsets[number] + offset + done)
                if not count:
                    return False
                done += count
        except OSError:
            return False
        return True

    def locate(self, position: int, size_bytes: int) -> tuple[int, int, int] | None:
        """Return (number of the file, offset in it, count) of what a cell has of a file; None if it has nothing."""
        number = bisect_right(self.starts, position) - 1
        if number >= len(self.files):
            return None
        offset = position - self.starts[number]
        count = min(size_bytes, self.files[number].size_bytes - offset)
        return (number, offset, count) if count > 0 else None

    def list_between(self, number: int, places: Sequence[int], size_bytes: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, count) of what a file has between cells.

        Args:
            number: Of the file.
            places: Where in the run each cell begins, ascending.
            size_bytes: Of a cell.
        """
        start, end = self.starts[number], self.starts[number] + self.files[number].size_bytes
        done = start
        for place in (*places[bisect_left(places, start) : bisect_left(places, end)], end):
            if place > done:
                yield done - start, place - done
            done = place + size_bytes

    def copy(self, number: int, target: int, offset: int, count: int) -> bool:
        """Copy a part of a file to the same place in another; return whether all of it could be read.

        Args:
            number: Of the file.
            target: Descriptor of the other.
            offset: Where the part begins.
            count: Its length.

        Raises:
            OSError: The other cannot be written.
        """
        source, start, end = self._descriptors[number], offset, offset + count
        if source is None:
            return False
        shift = self._offsets[number]
        # In the kernel; file systems that can do so only let both files have the same blocks.
        with contextlib.suppress(OSError, AttributeError):
            while start < end and (done := os.copy_file_range(source, target, end - start, shift + start, start)):
                start += done
        # Where it cannot, and where what fails is to be told.
        while start < end:
            try:
                content = os.pread(source, min(_COPIED_BYTES, end - start), shift + start)
            except OSError:
                return False
            if not content:
                return False
            write_at(target, content, start)
            start += len(content)
        return True

    def identify(self, number: int) -> tuple[int, int] | None:
        """Return what tells a file from all others; None if it cannot be opened."""
        descriptor = self._descriptors[number]
        return None if descriptor is None else identify(descriptor)

    @property
    def mode(self) -> int:
        """The permission bits that all files have that are there; of none, those of a private file."""
        modes = [os.fstat(one).st_mode & 0o777 for one in self._descriptors if one is not None]
        return reduce(and_, modes) if modes else 0o600

    def length_of(self, number: int) -> int | None:
        """Return the length that a file has now; None if it cannot be opened."""
        descriptor = self._descriptors[number]
        if descriptor is None:
            return None
        size_bytes = os.fstat(descriptor).st_size - self._offsets[number]
        # In a copy others follow it, but for the last one.
        is_last = number == len(self.files) - 1
        return (
            size_bytes
            if is_last or not any(self._offsets)
            else max(0, min(size_bytes, self.files[number].size_bytes))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors:
            if descriptor is not None:
                os.close(descriptor)


def open_regular(path: Path) -> int | None:
    """Open a file for reading; None if it cannot be opened, or is something else, such as a pipe or a folder."""
    try:
        # What would wait for a writer is opened at once, and found to be no file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def identify(descriptor: int) -> tuple[int, int]:
    """Return what tells an open file from all others."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def write_at(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of `content`: on a disk that is nearly full the system may write a part, without an error."""
    rest = memoryview(content)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count
