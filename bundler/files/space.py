"""Free space: checked before anything is written, and explained if it still runs out."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bundler.errors import SpaceError
from bundler.text.wording import size

ROOM_HINT = "free some space, or choose other places with --cache-dir and -o"


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
