"""Whether a program opens a file of the bundle, told by the kernel: inotify(7), Linux.

Seen is every program, by whatever name it comes to a file. Times of access would not do: many file systems keep none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_IN_OPEN, _IN_ISDIR, _IN_Q_OVERFLOW = 0x20, 0x40000000, 0x4000
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
# struct inotify_event: watch, what happened, cookie, length of the name that follows.
_EVENT = struct.Struct("=iIII")
_READ_BYTES = 1 << 16


class Reads:
    """Watches folders for files that are opened in them.

    Args:
        descriptor: Of inotify; None where there is none.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def were_any(self) -> bool | None:
        """Tell whether a file was opened since the watching began; None if nobody knows."""
        if self._descriptor is None:
            return None
        with contextlib.suppress(BlockingIOError):
            while content := os.read(self._descriptor, _READ_BYTES):
                if any(_is_of_file(mask) for mask in _masks(content)):
                    return True
        return False


@contextlib.contextmanager
def watch_reads(folders: Iterable[Path]) -> Iterator[Reads]:
    """Watch all folders in some as long as the block lasts; those that are not there are none.

    Args:
        folders: Links in them are not followed.
    """
    descriptor = _open()
    try:
        if descriptor is not None and not all(_add(descriptor, path) for path in _walk(folders)):
            # More than the system lets a user watch: what is not seen may have been read.
            os.close(descriptor)
            descriptor = None
        yield Reads(descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _walk(folders: Iterable[Path]) -> Iterator[str]:
    for folder in folders:
        yield from (path for path, _, _ in os.walk(folder))


def _open() -> int | None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "inotify_init1"):
        return None
    descriptor: int = libc.inotify_init1(_NONBLOCK_CLOEXEC)
    return descriptor if descriptor >= 0 else None


def _add(descriptor: int, path: str) -> bool:
    found: int = ctypes.CDLL(None).inotify_add_watch(descriptor, os.fsencode(path), _IN_OPEN)
    return found >= 0


def _masks(content: bytes) -> Iterator[int]:
    at = 0
    while at < len(content):
        _, mask, _, length = _EVENT.unpack_from(content, at)
        yield mask
        at += _EVENT.size + length


def _is_of_file(mask: int) -> bool:
    # Where events were lost there were more than fit: of those some are of files, or nobody knows.
    return bool(mask & _IN_Q_OVERFLOW) or not mask & _IN_ISDIR
