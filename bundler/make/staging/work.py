"""Work folders of the store, and a temporary folder elsewhere that goes with one; those of killed processes go later.

    w.<owner>/              a folder of a process that runs
    w.<owner>/temporary     a link to its temporary folder, if it has one

What a program of strangers left there is removed whatever it is, and of other folders nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bundler.files.owner import Owner
from bundler.make.staging.partial import may_be_alive, owner_mark
from bundler.offline.sandbox.remove_tree import remove_tree

_TEMPORARY = "temporary"
_PREFIX = "b."
# For a folder of another machine, which cannot be asked.
_PATIENCE_SECONDS = 24 * 3600


@contextlib.contextmanager
def make_work_folder(root: Path) -> Iterator[Path]:
    """Make an empty folder in `root`; remove it when the block ends."""
    clear_work_folders(root)
    folder = root / f"w.{owner_mark()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


@contextlib.contextmanager
def make_temporary_folder(work: Path) -> Iterator[Path]:
    """Make a temporary folder with a short name: sockets of worker processes are in it, and have 107 characters.

    Args:
        work: A work folder of this process. If it is killed, whoever clears that removes this too.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        (work / _TEMPORARY).symlink_to(folder)
        yield folder
    finally:
        with contextlib.suppress(OSError):
            remove_tree(folder)


def clear_work_folders(root: Path) -> None:
    """Remove the folders of processes that are dead."""
    for stale in root.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if not may_be_alive(stale, stale.lstat().st_mtime, _PATIENCE_SECONDS):
                _remove_temporary(stale)
                _remove(stale)


def _remove_temporary(work: Path) -> None:
    owner = Owner.parse(work.name.rpartition(".")[2])
    if owner is None or owner.system != Owner.current().system:
        return  # The name of a folder on another machine.
    with contextlib.suppress(OSError):
        folder = (work / _TEMPORARY).readlink()
        told = folder.lstat()
        # As mkdtemp makes it: whatever the link has become, nothing else is removed.
        is_ours = (told.st_uid, stat.S_IMODE(told.st_mode)) == (os.getuid(), 0o700)
        if folder.name.startswith(_PREFIX) and stat.S_ISDIR(told.st_mode) and is_ours:
            remove_tree(folder)


def _remove(folder: Path) -> None:
    # Programs of strangers worked in it. What cannot be deleted now, a later run tries again.
    with contextlib.suppress(OSError):
        remove_tree(folder)
