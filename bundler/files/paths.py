"""Relative POSIX paths, the single "stays inside root" check, and atomic writes.

Rule book:

* a path that comes from outside (Hub, lock, bundle) is text until `check_relative_path` has accepted it;
* a file appears under its final name only whole: written beside it, synced, then renamed (`atomic_write`);
* no other module joins an untrusted path to a root, or renames into place, on its own.

Symlinks are not followed by any check here: what a link points to is decided by whoever makes the link, and we
only make links whose target is computed by `bundler.plan.layout`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shutil
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bundler.errors import FormatError, UsageError
from bundler.files.uncached_file import BUFFER_BYTES, SyncedFile
from bundler.text.wording import quoted

# The longest name that ext4, XFS, Lustre and GPFS all take, in bytes.
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096

# Names of half-written files. They start with a dot, so neither the Hugging Face libraries nor `ls` show them, and
# carry a mark of ours, so that a later run can tell its own leftovers from a stranger's files.
TEMPORARY_PREFIX = ".bundle-tmp-"

# Most paths look like this; whatever does not is looked at closely.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")

FOREIGN_LEFTOVER_SECONDS = 24 * 3600


def relative_path_problem(text: str) -> str | None:
    """Say what is wrong with a relative POSIX path, if it could leave the folder that it is joined to.

    Refused: empty, absolute, `.`/`..`/empty segments, backslashes (a separator on Windows), control characters,
    and names longer than file systems take. Nothing is normalised: two spellings of one path must not both pass,
    or a file could be listed, and hashed, under one name and written under another.

    Returns:
        What is wrong, with the path, in words; None for a plain relative path.
    """
    if _PLAIN_PATH.fullmatch(text) and len(text) <= MAX_NAME_BYTES:
        return None
    problem = None
    segments = text.split("/")
    if not text:
        problem = "is empty"
    elif text.startswith("/"):
        problem = "is absolute"
    elif any(segment in ("", ".", "..") for segment in segments):
        problem = "has an empty, '.' or '..' segment"
    elif "\\" in text:
        problem = "has a backslash"
    elif _CONTROL_CHARACTERS.search(text):
        problem = "has a control character"
    else:
        try:
            encoded = text.encode("utf-8")
        except UnicodeEncodeError:
            problem = "is not valid Unicode"
        else:
            if len(encoded) > MAX_PATH_BYTES or any(len(s.encode()) > MAX_NAME_BYTES for s in segments):
                problem = f"is longer than file systems take ({MAX_NAME_BYTES} bytes a name)"
    return f"{quoted(text)} {problem}; expected a relative path such as 'a/b.json'" if problem else None


def check_relative_path(text: str, *, what: str = "path") -> str:
    """Accept a path that `relative_path_problem` has nothing against.

    Args:
        text: The path as it was found.
        what: How to call it in the error, for instance ``"files[3].path"``.

    Returns:
        `text`, unchanged.

    Raises:
        FormatError: The path is not a plain relative one.
    """
    if problem := relative_path_problem(text):
        raise FormatError(f"{what}: {problem}")
    return text


def inside(root: Path, relative: str) -> Path:
    """Return `root / relative` after `check_relative_path`."""
    return root.joinpath(*check_relative_path(relative).split("/"))


def fsync_dir(directory: Path) -> None:
    """Make the names in `directory` durable, where the file system can."""
    # Some network file systems refuse to open or sync a folder; their rename is as durable as they offer.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def temporary_path(directory: Path) -> Path:
    """Return a fresh name of ours in `directory`; nothing is created."""
    return directory / f"{TEMPORARY_PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(6)}"


def _host() -> str:
    # A checksum, since host names have characters and lengths that file names should not.
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def is_leftover(path: Path, *, now: float) -> bool:
    """Tell whether `path` is a half-written file or folder of ours whose writer is dead.

    On this host the process table says so. A file of another host, which a shared file system may show, counts as
    left over once it has not changed for a day.
    """
    if not path.name.startswith(TEMPORARY_PREFIX):
        return False
    host, _, rest = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")
    pid = rest.partition("-")[0]
    if host != _host() or not pid.isdigit():
        try:
            return now - path.lstat().st_mtime > FOREIGN_LEFTOVER_SECONDS
        except FileNotFoundError:
            return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def remove_leftovers(root: Path, *, now: float, below: bool = True) -> list[Path]:
    """Delete what killed runs left half-written in `root` and, unless told otherwise, anywhere below it.

    Links are not followed.

    Returns:
        What was deleted.
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
                # os.walk counts a link to a folder among the folders.
                with contextlib.suppress(FileNotFoundError):
                    path.unlink() if path.is_symlink() else shutil.rmtree(path)
                removed.append(path)
        if not below:
            break
    return removed


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


@contextlib.contextmanager
def atomic_writer(path: Path, *, mode: int = 0o644, sync_dir: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on success sync it and rename it to `path`, on failure delete it.

    The parent folder is made when missing. Readers see the old content or the new, never a mixture.

    Args:
        path: The final name.
        mode: Permission bits of a new file, less the umask.
        sync_dir: Sync the folder too; False for a caller who writes many files and calls `fsync_dir` once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path.parent)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with SyncedFile(descriptor, "wb") as file, io.BufferedWriter(file, BUFFER_BYTES) as stream:
            yield stream
            stream.flush()
            file.sync()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync_dir:
        fsync_dir(path.parent)


def atomic_write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write `content` to `path` whole or not at all (see `atomic_writer`)."""
    with atomic_writer(path, mode=mode) as stream:
        stream.write(content)
