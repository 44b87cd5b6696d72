"""Half-written files of killed processes, recognised by the names that `bundler.files.atomic` gives them."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from bundler.files.atomic import TEMPORARY_PREFIX
from bundler.files.owner import Owner

# Seconds without a change after which a file of another machine, on a shared file system, counts as left over.
FOREIGN_LEFTOVER_SECONDS = 24 * 3600


def is_leftover(path: Path, *, now: float) -> bool:
    """Tell whether `path` is a half-written file or folder of ours whose writer is dead.

    On this machine the process table tells. A file of another machine, on a shared file system, counts as left over
    when it has not changed for a day; so does a file with the mark of an earlier version.
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
    """Delete half-written files of killed runs in `root` and, with `below`, in all folders below it.

    Links are not followed.

    Returns:
        The paths that were deleted.
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
                # os.walk lists a link to a folder as a folder.
                with contextlib.suppress(FileNotFoundError):
                    path.unlink() if path.is_symlink() else shutil.rmtree(path)
                removed.append(path)
        if not below:
            break
    return removed
