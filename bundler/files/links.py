"""Names on a file system: links and the case of letters; replacing a file by a link, and where links lead.

Functions for many files take strings: a `Path` for each of 100,000 takes seconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable
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


def ignores_case(directory: Path) -> bool:
    """Return whether names that differ only in case are one in `directory`; a file is made to find out.

    Raises:
        OSError: Nothing can be made there.
    """
    probe = temporary_path(directory)
    probe.touch(exist_ok=False)
    try:
        return probe.with_name(probe.name.swapcase()).exists()
    finally:
        probe.unlink()


def replace_symlink(
    place: str | Path, target: str, *, accepts: Callable[[str], bool] = lambda found: False
) -> None:
    """Make a symlink to `target` at a place, atomically; a file or another link that is there is replaced.

    Args:
        place: Where.
        target: What it says.
        accepts: Tells of what a link says that is there whether it may stay.
    """
    # A link appears whole: the detour by another name is for what has to go.
    for _ in range(2):
        try:
            os.symlink(target, place)  # noqa: PTH211 -- strings, as above
        except FileNotFoundError:
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120 -- as above
        except FileExistsError:
            break
        else:
            return
    path = Path(place)
    with contextlib.suppress(OSError):  # a file
        found = os.readlink(path)  # noqa: PTH115 -- the text as it is
        if found == target or accepts(found):
            return
    temporary = temporary_path(path.parent)
    temporary.symlink_to(target)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def link_or_copy(source: str | Path, place: str | Path) -> None:
    """Give `source` a second name: a hard link where the file system supports them, else a copy."""
    path = Path(place)
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


class Resolver:
    """Resolve many paths, as `os.path.realpath` does; each folder is resolved once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def resolve(self, path: str) -> str:
        """Return the path with no link in it; the file need not be there."""
        folder, _, name = path.rpartition("/")
        if not folder or name in ("", ".", ".."):
            return os.path.realpath(path)
        if (real := self._folders.get(folder)) is None:
            real = self._folders[folder] = os.path.realpath(folder)
        place = f"{real.rstrip('/')}/{name}"
        return os.path.realpath(place) if os.path.islink(place) else place  # noqa: PTH114 -- strings, as above


class LostNames:
    """Count names of files that are lost one after the other: the last one frees what the file holds.

    Nothing is deleted here. A name that nobody counts, wherever it is, keeps its file.
    """

    def __init__(self) -> None:
        self._lost: Counter[tuple[int, int]] = Counter()

    def lose(self, path: str) -> int:
        """Count one name; return the bytes that are free when it is gone. Each path is to be counted once."""
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        if not stat.S_ISREG(status.st_mode):
            return 0
        inode = status.st_dev, status.st_ino
        self._lost[inode] += 1
        return status.st_size if self._lost[inode] == status.st_nlink else 0
