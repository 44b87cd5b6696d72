"""Symbolic and hard links: whether a file system supports them, and replacing a file by one atomically."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from bundler.files.atomic import temporary_path

# A file system without links says EPERM, or that it does not know the call.
_NO_WRITING = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)


def symlinks_work(directory: Path) -> bool:
    """Return whether relative symlinks work in `directory`; one is made to find out.

    Raises:
        OSError: Nothing can be made there at all, which says nothing about links.
    """
    directory.mkdir(parents=True, exist_ok=True)
    probe = temporary_path(directory)
    try:
        probe.symlink_to("target")
    except OSError as error:
        if error.errno in _NO_WRITING:
            raise
        return False
    probe.unlink(missing_ok=True)
    return True


def hard_links_work(directory: Path) -> bool:
    """Return whether hard links work in `directory`; one is made to find out.

    Raises:
        OSError: Nothing can be made there at all, which says nothing about links.
    """
    source, link = temporary_path(directory), temporary_path(directory)
    source.touch()
    try:
        os.link(source, link)
    except OSError as error:
        if error.errno in _NO_WRITING:
            raise
        return False
    finally:
        source.unlink(missing_ok=True)
        link.unlink(missing_ok=True)
    return True


def replace_symlink(path: Path, target: str) -> None:
    """Make `path` a symlink to `target` atomically; a file or link that is there is replaced."""
    if path.is_symlink() and path.readlink() == Path(target):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path.parent)
    temporary.symlink_to(target)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def link_or_copy(source: Path, path: Path) -> None:
    """Make `path` a second name of `source`: a hard link where the file system supports them, else a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path.parent)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(path)
        # If both names are hard links to one file, rename(2) does nothing and keeps the temporary name.
        temporary.unlink(missing_ok=True)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
