"""Say of a file that the system will not read or write which one it is, why, and what to do.

Library functions let `OSError` pass; the commands turn it into an `AccessError` in one place, by this module.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

from bundler.errors import AccessError, BundleError, SpaceError


def explained(error: OSError) -> BundleError | None:
    """Return what to tell a person of `error`; None if it names no file, and so is not about one."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    path = Path(os.fsdecode(error.filename))
    what = f"{path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError(what, hint="free some space and run the same command again")
    if error.errno == errno.EROFS:
        return AccessError(
            what,
            hint="what is there can be used; to write there, mount it writable, or name another folder",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return _refused(path, what)
    return AccessError(what, hint="look at that file and its file system, then run the same command again")


def _refused(path: Path, what: str) -> AccessError:
    """Name the first folder or file on the way to `path` that refuses, with its mode and owner."""
    for place in (*reversed(path.parents), path):
        try:
            status = place.stat()
        except OSError:
            break
        wanted = os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)
        if not _may(place, wanted):
            return AccessError(
                f"{what}: {_described(place, status)}",
                hint=f"its owner can open it to all: chmod -R a+rX {place}",
            )
    # All that is there can be read: it was to be written.
    place = next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), path)
    # Names are made, changed and removed in their folder, whatever the file's own mode.
    if not place.is_dir() and not _may(place.parent, os.W_OK | os.X_OK):
        place = place.parent
    return AccessError(
        f"{what}: {_described(place, place.lstat())}",
        hint="let its owner run this command, or name a folder of your own (--hf-home)",
    )


def _may(place: Path, wanted: int) -> bool:
    # By effective ids, as open(2) judges.
    return os.access(place, wanted, effective_ids=os.access in os.supports_effective_ids)


def _described(place: Path, status: os.stat_result) -> str:
    return (
        f"{place} has mode {stat.S_IMODE(status.st_mode):04o} and belongs to {_user(status.st_uid)}, "
        f"you are {_user(os.geteuid())}"
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
