"""The stored bytes of a bundle: in one file, or in volumes (`bundler.format.storage.volumes`).

Readers use offsets from the start of the bundle, and need not know which of the two it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from bundler.errors import DamagedError, FormatError, UsageError
from bundler.remote.address import Place


class Stored(Protocol):
    """The bytes of a bundle; all methods may be called from several threads.

    Attributes:
        path: Its path or address, for messages.
        size_bytes: Length of the bundle.
    """

    path: Place
    size_bytes: int

    def read_at(self, start: int, size_bytes: int) -> bytes:
        """Return exactly `size_bytes` bytes from `start`.

        Raises:
            FormatError: The bundle has fewer bytes, or they cannot be read.
        """
        data = bytearray(size_bytes)
        self.read_into(start, memoryview(data))
        return bytes(data)

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start`.

        Raises:
            FormatError: The bundle has fewer bytes.
            DamagedError: The bytes cannot be read.
        """

    def file_at(self, start: int) -> Place:
        """Return the file that holds the byte at `start`, for error messages."""

    def expect(self, spans: Iterable[tuple[int, int]]) -> AbstractContextManager[object]:
        """Prepare for reads that follow while the returned block runs.

        Args:
            spans: First byte and the byte after the last of each, ascending.
        """

    def close(self) -> None:
        """Close all files; further reads fail."""


# Opens a file of a bundle.
OpenFile = Callable[[Path], Stored]


class OneFile(Stored):
    """One file.

    Args:
        path: The file.

    Raises:
        FormatError: There is no such file, or it is a folder.
        UsageError: It is a pipe or a device.
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path: Place = path
        try:
            # Check before opening: opening a named pipe would wait for a writer.
            mode = path.stat().st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode):
                raise UsageError(
                    f"{path}: expected a bundle file, which is read from its end, found a pipe or a device",
                    hint="`bundle install -` reads a bundle from a pipe; otherwise write it to a file first",
                )
            if not stat.S_ISREG(mode):
                raise FormatError(f"{path}: expected a bundle, found a folder or a disk")
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FormatError(f"{path}: cannot be opened: {error.strerror}") from error
        self.size_bytes = os.fstat(self._descriptor).st_size

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` (see `Stored`)."""
        done = 0
        try:
            while done < len(target):
                # preadv(2) returns at most 2 GiB less a page, and less than asked for on some network file systems.
                count = os.preadv(self._descriptor, [target[done:]], start + done)
                if not count:
                    raise FormatError(
                        f"{self.path}: ends at byte {start + done}, expected {len(target) - done} more"
                    )
                done += count
        except OSError as error:
            raise DamagedError(f"{self.path}: cannot be read: {error.strerror}") from error

    def file_at(self, start: int) -> Place:
        """Return the file."""
        return self.path

    def expect(self, spans: Iterable[tuple[int, int]]) -> AbstractContextManager[object]:
        """Do nothing: the system reads ahead."""
        return nullcontext()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
