"""Free space: checked before anything is written, and explained if it still runs out."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundler.errors import SpaceError
from bundler.text.wording import size

Stage = Literal["download", "staging", "bundle", "installed"]
ROOM_HINT = "free some, or choose other places with --cache-dir and -o"


def check_room(needs: Mapping[Path, int], *, hint: str = ROOM_HINT) -> None:
    """Make sure that every file system has enough free space for what will be written to it.

    A file system that reports no size, as /proc and some network mounts do, is not checked here;
    `bundler.files.access.check_writable` finds those that cannot be written to.

    Args:
        needs: folder -> bytes. Folders on one file system are added up; a missing folder counts as its parent.
        hint: What a person can do if there is too little space.

    Raises:
        SpaceError: A file system has too little; the message says how much is needed, how much is free, and where.
    """
    by_device: dict[int, tuple[list[Path], int]] = {}
    for folder, size_bytes in needs.items():
        place = existing_folder(folder)
        folders, total = by_device.get(place.stat().st_dev, ([], 0))
        by_device[place.stat().st_dev] = ([*folders, place], total + size_bytes)
    for folders, total in by_device.values():
        usage = shutil.disk_usage(folders[0])
        if usage.total and usage.free < total:
            places = " and ".join(dict.fromkeys(str(folder) for folder in folders))
            raise SpaceError(
                f"not enough room in {places}: {size(total)} needed, {size(usage.free)} free, "
                f"{size(total - usage.free)} short; nothing was written",
                hint=hint,
            )


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
def report_full_disk(message: str, *, hint: str) -> Iterator[None]:
    """Raise a `SpaceError` instead of the system's error if the disk fills up inside the block.

    Args:
        message: Which disk is full, and what was done with the half-written files.
        hint: What a person can do.

    Raises:
        SpaceError: The disk, or the user's quota, is used up.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise SpaceError(message, hint=hint) from error
        raise
