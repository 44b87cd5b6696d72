"""What killed processes left, recognised by their marks in the names: half-written files, and temporary folders."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
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


@contextlib.contextmanager
def make_temporary_folder(prefix: str) -> Iterator[Path]:
    """Make an empty folder, and remove it when the block ends; before, remove those of killed processes.

    Args:
        prefix: What its name begins with; no other kind of folder has it.
    """
    for stale in find_stale(prefix):
        # Somebody else removes it too; or a process that outlived the killed one writes there still.
        shutil.rmtree(stale, ignore_errors=True)
    folder = make_marked_folder(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_marked_folder(prefix: str) -> Path:
    """Make an empty folder whose name begins with a prefix, and has the mark of this process."""
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{Owner.current().mark}-"))


def find_stale(prefix: str) -> Iterator[Path]:
    """Yield the folders of this user's killed processes, on this system and in this process namespace."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        owner = Owner.parse(folder.name.removeprefix(prefix))
        if owner is None or owner.may_be_alive(idle_seconds=0, patience_seconds=math.inf):
            continue
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
                yield folder
