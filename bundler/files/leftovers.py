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
    waiting = [os.fspath(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                # Strings: a Path for each of 100,000 files takes seconds.
                found = [(entry.name, entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            continue  # Gone meanwhile, or not to be read.
        for name, text, is_folder in found:
            if name.startswith(TEMPORARY_PREFIX) and is_leftover(Path(text), now=now):
                path = Path(text)
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path) if is_folder else path.unlink()
                    removed.append(path)
            elif is_folder and below:
                waiting.append(text)
    return removed
