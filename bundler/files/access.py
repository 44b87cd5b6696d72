"""What the system does not let us read or write: found out in time, told from what is absent, and explained.

Library functions let `OSError` pass; the commands turn it into an `AccessError` in one place, by `explain`.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

from bundler.errors import AccessError, BundleError, SpaceError, UsageError
from bundler.files.atomic import temporary_path
from bundler.files.space import is_disk_full

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)


def check_writable(folder: Path) -> None:
    """Make sure that files can be written in a folder, before hours are spent on what is to be written.

    The access bits do not tell: root passes them on a read-only mount, and nobody can write to /proc.

    Raises:
        UsageError: They cannot, or it is no folder.
    """
    probe = temporary_path(folder)
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"{folder}: no file can be written there: {error.strerror}", hint="name another folder"
        ) from error


def raise_unless_absent(error: OSError) -> None:
    """Raise an error that leaves open whether the file is there, as where its folder may not be looked into.

    Return where it says that no such file is there: nothing of the name, something else in its place, or a link that
    leads nowhere. As `onerror` of `os.walk`, this keeps a folder that may not be read from passing for an empty one.

    Raises:
        OSError: The one given.
    """
    if error.errno not in _ABSENT:
        raise error


def explain(error: OSError) -> BundleError | None:
    """Return what to tell a person of `error`; None if it names no file, and so is not about one."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    path = Path(os.fsdecode(error.filename))
    what = f"{path}: {error.strerror or error}"
    if is_disk_full(error):
        return SpaceError(what, hint="free some space and run the same command again")
    if error.errno == errno.EROFS:
        return AccessError(
            what,
            hint="what is there can be used; to write there, mount it writable, or name another folder",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return _explain_refusal(path, what)
    return AccessError(what, hint="look at that file and its file system, then run the same command again")


def _explain_refusal(path: Path, what: str) -> AccessError:
    """Name the first folder or file on the way to `path` that refuses, with its mode and owner."""
    for place in (*reversed(path.parents), path):
        try:
            status = place.stat()
        except OSError:
            break
        wanted = os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)
        if not _permits(place, wanted):
            return AccessError(
                f"{what}: {_describe(place, status)}",
                hint=f"its owner can open it to all: chmod -R a+rX {place}",
            )
    # All that is there can be read: it was to be written.
    place = next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), path)
    # Names are made, changed and removed in their folder, whatever the file's own mode.
    if not place.is_dir() and not _permits(place.parent, os.W_OK | os.X_OK):
        place = place.parent
    return AccessError(
        f"{what}: {_describe(place, place.lstat())}",
        hint="let its owner run this command, or name a folder of your own (--hf-home)",
    )


def _permits(place: Path, wanted: int) -> bool:
    # By effective ids, as open(2) judges.
    return os.access(place, wanted, effective_ids=os.access in os.supports_effective_ids)


def _describe(place: Path, status: os.stat_result) -> str:
    return (
        f"{place} has mode {stat.S_IMODE(status.st_mode):04o} and belongs to {get_user_name(status.st_uid)}, "
        f"you are {get_user_name(os.geteuid())}"
    )


def get_user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
