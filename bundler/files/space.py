"""Free space, in bytes and in files: checked before anything is written, and explained if it still runs out.

Many file systems have room for a fixed number of files (inodes). Where they are used up the system says that the disk
is full, though `df` shows free bytes: then it is said what is full.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundler.errors import SpaceError
from bundler.text.wording import counted, size

Stage = Literal["download", "staging", "bundle", "installed"]
ROOM_HINT = "free some, or choose other places with --cache-dir and -o"
# What fits when the disk is called full: files that were given up in the meantime leave a few.
_FEW_FILES = 64
_FEW_BYTES = 1 << 20


def check_room(
    needs: Mapping[Path, int], *, files: Mapping[Path, int] | None = None, hint: str = ROOM_HINT
) -> None:
    """Make sure that every file system has enough free space for what will be written to it.

    A file system that reports no size, as /proc and some network mounts do, is not checked here;
    `bundler.files.access.check_writable` finds those that cannot be written to.

    Args:
        needs: folder -> bytes. Folders on one file system are added up; a missing folder counts as its parent.
        files: folder -> how many files at least.
        hint: What a person can do if there is too little space.

    Raises:
        SpaceError: A file system has too little; the message says how much is needed, how much is free, and where.
    """
    for folders, total in _join(needs):
        usage = shutil.disk_usage(folders[0])
        if usage.total and usage.free < total:
            raise SpaceError(
                f"not enough room in {_name(folders)}: {size(total)} needed, {size(usage.free)} free, "
                f"{size(total - usage.free)} short; nothing was written",
                hint=hint,
            )
    for folders, total in _join(files or {}):
        free = count_free_files(folders[0])
        if free is not None and free < total:
            raise SpaceError(
                f"not enough room in {_name(folders)}: {counted(total, 'file')} needed, {counted(free, 'more file')} "
                f"fit (inodes); nothing was written",
                hint=f"delete files, or {hint.removeprefix('free some, or ')}; {_show_files(folders[0])}",
            )


def _join(needs: Mapping[Path, int]) -> Iterable[tuple[list[Path], int]]:
    """Return the folders of each file system, and the sum of what they need."""
    by_device: dict[int, tuple[list[Path], int]] = {}
    for folder, needed in needs.items():
        place = existing_folder(folder)
        folders, total = by_device.get(place.stat().st_dev, ([], 0))
        by_device[place.stat().st_dev] = ([*folders, place], total + needed)
    return by_device.values()


def _name(folders: Iterable[Path]) -> str:
    return " and ".join(dict.fromkeys(str(folder) for folder in folders))


def count_free_files(folder: Path) -> int | None:
    """Return how many more files fit on a folder's file system; None where it has no limit of them."""
    told = os.statvfs(folder)
    # 0 of 0: as many as there is room for.
    return told.f_favail if told.f_files else None


def lacks_files(path: Path) -> bool:
    """Tell whether a file system that is called full has room in bytes, and none for another file."""
    try:
        place = existing_folder(path)
        free = count_free_files(place)
        return free is not None and free < _FEW_FILES and shutil.disk_usage(place).free >= _FEW_BYTES
    except OSError:
        return False


def explain_full_disk(path: Path, message: str, hint: str) -> SpaceError:
    """Return the error for a file system that the system calls full.

    Args:
        path: A file or folder on it.
        message: What was being done.
        hint: What a person can do if bytes are what lacks.
    """
    if not lacks_files(path):
        return SpaceError(message, hint=hint)
    place = existing_folder(path)
    free = size(shutil.disk_usage(place).free)
    return SpaceError(
        f"{message}: it has room for {free} and for no more files (inodes)",
        hint=f"delete files there, or choose another file system, and run the same command again; {_show_files(place)}",
    )


def _show_files(place: Path) -> str:
    return f"`df -i {place}` shows how many there are"


@dataclass(frozen=True, kw_only=True)
class Room:
    """What one stage of a work will write; what earlier stages wrote, or what is there, is not counted again.

    Attributes:
        stage: `download`, `staging`, `bundle` or `installed`.
        place: The folder; None where it is on another machine.
        needed_bytes: At most so much.
        free_bytes: What its file system has free now; None where that is not known.
    """

    stage: Stage
    place: Path | None
    needed_bytes: int
    free_bytes: int | None


def measure_room(stage: Stage, place: Path | None, needed_bytes: int) -> Room:
    """Return how much room a stage needs, beside what is free there now; nothing is written."""
    free = None
    if place is not None:
        usage = shutil.disk_usage(existing_folder(place))
        # Some mounts give no size at all.
        free = usage.free if usage.total else None
    return Room(stage=stage, place=place, needed_bytes=needed_bytes, free_bytes=free)


def find_shortage(rooms: Iterable[Room]) -> SpaceError | None:
    """Return the error that `check_room` would raise for all stages together, or None if there is room."""
    needs: dict[Path, int] = {}
    for room in rooms:
        if room.place is not None:
            needs[room.place] = needs.get(room.place, 0) + room.needed_bytes
    try:
        check_room(needs)
    except SpaceError as error:
        return error
    return None


def existing_folder(path: Path) -> Path:
    """Return `path`, or its nearest parent that exists."""
    place = path.absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def is_disk_full(error: OSError) -> bool:
    """Tell whether an error says that the disk, or the user's quota, is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def report_full_disk(place: Path, message: str, *, hint: str) -> Iterator[None]:
    """Raise a `SpaceError` instead of the system's error if the disk fills up inside the block.

    Args:
        place: A file or folder on it.
        message: Which disk is full, and what was done with the half-written files.
        hint: What a person can do.

    Raises:
        SpaceError: The disk, or the user's quota, is used up.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise explain_full_disk(place, message, hint) from error
        raise
