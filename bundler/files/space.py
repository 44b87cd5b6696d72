"""Room on a file system: checked before anything is written, and what to say when it runs out for all that."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bundler.errors import SpaceError
from bundler.text.wording import size

ROOM_HINT = "free some, or choose other places with --cache-dir and -o"


def check_room(needs: Mapping[Path, int], *, hint: str = ROOM_HINT) -> None:
    """Make sure that every file system has room for what is about to be written to it.

    A file system that gives no size at all, as /proc and some network mounts do, is not judged by it;
    `bundler.files.access.check_writable` finds those that take nothing.

    Args:
        needs: folder -> bytes; folders on one file system are added up. Missing folders count as their parents.
        hint: What a person can do where there is too little.

    Raises:
        SpaceError: One has not; the message says how much is needed, how much there is, and where.
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
    """Return `path`, or the nearest of the folders around it that is there."""
    place = path.absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def is_disk_full(error: OSError) -> bool:
    """Tell whether an error says that the disk, or the user's quota, is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def report_full_disk(message: str, *, hint: str) -> Iterator[None]:
    """Raise a `SpaceError` in place of the system's own error where the disk fills up inside the block.

    Args:
        message: Where it filled up, and what became of what was written.
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
