"""The stamp of a file or folder: what the kernel says of it, which a change of it changes too.

Rule book:

* a stamp is inode, length, modification time and change time. The change time moves with every write, rename, chmod
  and new link, and no program can set it but by setting the clock;
* a stamp says something only if the file system's clock has moved on since the file last changed: a change in the
  same tick would leave it as it is (git's rule for its index, `racy-git`);
* the device is no part of it: that of a network file system differs from node to node.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bundler.files.atomic import temporary_path

# Where the file system's own clock cannot be asked: more than the ticks of file systems, 2 s at most (FAT).
_COARSEST_NS = 2_000_000_000
# For how long a file system's clock is waited for.
_PATIENCE_SECONDS = 2.5


class Stamp(NamedTuple):
    """What the kernel says of a file or folder.

    Attributes:
        inode: Its number.
        size_bytes: Its length.
        modified_ns: When its content changed; any program can set it.
        changed_ns: When anything of it changed.
    """

    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp that a status tells."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


# Device and stamp of a file: what tells one content on this machine from another.
Inode = tuple[int, ...]


def find_inode(status: os.stat_result) -> Inode:
    """Return what a file with content is known by, `(device, *Stamp)`."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read_own_clock() -> int:
    """Return a moment, in ns, before which whatever changed has a stamp that says something.

    It goes by this machine's clock: a network file system whose server lags by more than two seconds makes it wrong.
    """
    return time.time_ns() - _COARSEST_NS


def wait_for_clock(folder: Path, changed_ns: int) -> int:
    """Wait until the clock of a file system has moved past a change, and return it, in ns.

    Args:
        folder: Where files can be made.
        changed_ns: The last change. Where the clock does not get there in 2.5 s, it is set wrong, or was.

    Raises:
        OSError: No file can be made there.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        now_ns = _read_clock(folder)
        if now_ns > changed_ns or time.monotonic() > deadline:
            return now_ns
        time.sleep(0.002)


def _read_clock(folder: Path) -> int:
    path = temporary_path(folder)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        return os.fstat(descriptor).st_ctime_ns
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()


def stamp_tree(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path below `root` and status of all that is there: of a folder before what is in it, of links themselves.

    Links are not followed. What a link says cannot be changed without a change of its folder.

    Raises:
        OSError: A folder cannot be read, or something went away meanwhile.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        yield folder, os.lstat(root / folder)
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                else:
                    yield path, entry.stat(follow_symlinks=False)
