"""Give a file's content a second name without copying it, where the file system can."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Literal

# linux/fs.h: a file that shares its blocks with another until one of them is written (btrfs, XFS, bcachefs, overlays).
_FICLONE = 0x40049409

How = Literal["reflink", "link", "copy"]


def clone_file(source: Path, target: Path) -> How:
    """Make `target`, which must not be there, a file with the content of `source`; return how.

    A reflink where the file system has them. A hard link where nobody but this user can write the file: what it is now
    stays true. Otherwise a copy.

    Raises:
        OSError: The source cannot be read, or the target not written; there is no target then.
    """
    if _reflink(source, target):
        return "reflink"
    status = source.stat()
    if status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        with contextlib.suppress(OSError):
            # A name of the file itself, where `source` is a link.
            os.link(os.path.realpath(source), target)
            return "link"
    try:
        shutil.copyfile(source, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return "copy"


def _reflink(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            is_done = False
        else:
            is_done = True
    if not is_done:
        target.unlink()
    return is_done
