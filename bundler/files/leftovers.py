"""What killed processes of ours left half-written, told by the names that `bundler.files.atomic` gave it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from bundler.files.atomic import TEMPORARY_PREFIX
from bundler.files.owner import Owner

# After how long without a change another system's file, on a shared file system, counts as left over.
FOREIGN_LEFTOVER_SECONDS = 24 * 3600


def is_leftover(path: Path, *, now: float) -> bool:
    """Tell whether `path` is a half-written file or folder of ours whose writer is dead.

    On this system the process table says so. A file of another one, which a shared file system may show, counts as
    left over once it has not changed for a day; so does one with a mark of an earlier version.
    """
    if not path.name.startswith(TEMPORARY_PREFIX):
        return False
    try:
        idle_seconds = now - path.lstat().st_mtime
    except FileNotFoundError:
        return False
    owner = Owner.parse(path.name.removeprefix(TEMPORARY_PREFIX))
    if owner is None:
        return idle_seconds > FOREIGN_LEFTOVER_SECONDS
    return not owner.may_be_alive(idle_seconds=idle_seconds, patience_seconds=FOREIGN_LEFTOVER_SECONDS)


def remove_leftovers(root: Path, *, now: float, below: bool = True) -> list[Path]:
    """Delete what killed runs left half-written in `root` and, unless told otherwise, anywhere below it.

    Links are not followed.

    Returns:
        What was deleted.
    """
    removed = []
    for folder, folders, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if is_leftover(path, now=now):
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    removed.append(path)
        for name in list(folders):
            path = Path(folder, name)
            if is_leftover(path, now=now):
                folders.remove(name)
                # os.walk counts a link to a folder among the folders.
                with contextlib.suppress(FileNotFoundError):
                    path.unlink() if path.is_symlink() else shutil.rmtree(path)
                removed.append(path)
        if not below:
            break
    return removed
