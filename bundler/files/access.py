"""Missing permissions: find them before long work starts, tell them from missing files, and explain them.

Library functions let `OSError` pass; the commands turn it into an `AccessError` in one place, by `explain`.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

from bundler.errors import AccessError, BundleError, UsageError
from bundler.files.atomic import temporary_path
from bundler.files.space import explain_full_disk, is_disk_full

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)


def check_writable(folder: Path) -> None:
    """Make sure that a folder can be written to, before hours are spent on what will be written there.

    A file is really written, because access bits are not enough: they let root pass on a read-only mount, and nobody
    can write to /proc.

    Raises:
        UsageError: No file can be written there, or it is not a folder.
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
    """Raise `error` again unless it says that the file does not exist.

    "Does not exist" means: no such name, a parent that is not a folder, or a link to nothing. Any other error, such as
    a folder that may not be read, does not say whether the file is there. Pass this as `onerror` to `os.walk`, which
    would otherwise treat an unreadable folder as an empty one.

    Raises:
        OSError: `error` itself.
    """
    if error.errno not in _ABSENT:
        raise error


def explain(error: OSError) -> BundleError | None:
    """Return the error to show to a person for `error`; None if it is about no file and no folder."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return _explain_no_folder(error)
    path = Path(os.fsdecode(error.filename))
    what = f"{path}: {error.strerror or error}"
    if is_disk_full(error):
        return explain_full_disk(path, what, "free some space and run the same command again")
    if error.errno == errno.EROFS:
        return AccessError(
            what,
            hint="its files can be read; to write there, mount it writable, or name another folder",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return _explain_refusal(path, what)
    return AccessError(what, hint="look at that file and its file system, then run the same command again")


def _explain_no_folder(error: OSError) -> BundleError | None:
    if error.errno == errno.ENOENT:
        try:
            Path.cwd()
        except FileNotFoundError:
            return AccessError(
                "the current folder was deleted, so that no name below it leads anywhere",
                hint="change to a folder that is there, and run the same command again",
            )
    # What tempfile.gettempdir raises has no file name; its text lists the folders that it tried.
    _, found, tried = (error.strerror or "").partition("No usable temporary directory found in ")
    if not found:
        return None
    return AccessError(
        f"expected a folder for temporary files, and can write to none of {tried.strip('[]')}",
        hint="set TMPDIR to a folder that can be written and has room",
    )


def _explain_refusal(path: Path, what: str) -> AccessError:
    """Return an error that names the first folder or file on the way to `path` that refuses, and the least change."""
    path = Path(os.path.realpath(path))
    for place in (*reversed(path.parents), path):
        try:
            status = place.stat()
        except OSError:
            break
        is_folder = stat.S_ISDIR(status.st_mode)
        # Passing through a folder does not need permission to list it.
        bits = ("x" if place != path else "rx") if is_folder else "r"
        if not _permits(place, (os.R_OK if "r" in bits else 0) | (os.X_OK if "x" in bits else 0)):
            return AccessError(f"{what}: {_describe(place, status)}", hint=_hint_at_reading(place, status, bits))
    # Everything on the way can be read, so the refusal was about writing.
    place = next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), path)
    # Creating, renaming and deleting a file needs write permission on its folder; the file's own mode does not matter.
    if not place.is_dir() and not _permits(place.parent, os.W_OK | os.X_OK):
        place = place.parent
    status = place.lstat()
    return AccessError(f"{what}: {_describe(place, status)}", hint=_hint_at_writing(place, status))


def _hint_at_reading(place: Path, status: os.stat_result, bits: str) -> str:
    owner, group = get_user_name(status.st_uid), _get_group_name(status.st_gid)
    if status.st_uid == os.geteuid():
        return f"chmod u+{bits} {place}"
    if _is_member(status.st_gid):
        return f"{owner} can open it to group {group}, which you are in: chmod g+{bits} {place}"
    if _group_has(status.st_mode, bits):
        return f"it is open to group {group}: ask to become a member"
    return (
        f"{owner} can open it to all users: chmod o+{bits} {place}; or to one group: chgrp GROUP, chmod g+{bits}"
    )


def _hint_at_writing(place: Path, status: os.stat_result) -> str:
    bits = "wx" if stat.S_ISDIR(status.st_mode) else "w"
    owner, group = get_user_name(status.st_uid), _get_group_name(status.st_gid)
    if status.st_uid == os.geteuid():
        return f"chmod u+{bits} {place}"
    more = "name a folder of your own (--hf-home)"
    if _group_has(status.st_mode, bits):
        more = f"ask to become a member of group {group}, which may write there"
    elif _is_member(status.st_gid):
        more = f"let {owner} allow it to group {group}, which you are in: chmod g+{bits} {place}"
    return f"let {owner} run this command, or {more}"


def _group_has(mode: int, bits: str) -> bool:
    wanted = {"r": stat.S_IRGRP, "w": stat.S_IWGRP, "x": stat.S_IXGRP}
    return all(mode & wanted[bit] for bit in bits)


def _is_member(gid: int) -> bool:
    return gid in (os.getegid(), *os.getgroups())


def _get_group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _permits(place: Path, wanted: int) -> bool:
    # open(2) checks the effective ids, so this must too.
    return os.access(place, wanted, effective_ids=os.access in os.supports_effective_ids)


def _describe(place: Path, status: os.stat_result) -> str:
    return (
        f"{place} has mode {stat.S_IMODE(status.st_mode):04o} and belongs to {get_user_name(status.st_uid)}, "
        f"you are {get_user_name(os.geteuid())}"
    )


def get_user_name(uid: int) -> str:
    """Return the login name of a user, or ``user UID`` where the system knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
