"""Files that appear under their final name only when complete: written beside it, synced, then renamed.

No other module renames into place by itself. A killed process leaves files named by `temporary_path`;
`bundler.files.leftovers` finds them by these names.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bundler.files.owner import Owner
from bundler.files.uncached_file import LargeWriter, UncachedFile

# Names of half-written files. They start with a dot, so neither the Hugging Face libraries nor `ls` show them, and
# carry the mark of their process, so that a later run does not delete files that another program made.
TEMPORARY_PREFIX = ".bundle-tmp-"


def atomic_write(path: Path, content: bytes, *, mode: int = 0o644, sync: bool = True) -> None:
    """Write all of `content` to `path`, or change nothing (see `atomic_writer`)."""
    with atomic_writer(path, mode=mode, sync=sync) as stream:
        stream.write(content)


@contextlib.contextmanager
def atomic_writer(
    path: Path, *, mode: int = 0o644, sync: bool = True, sync_dir: bool = True, keep_cached: bool = False
) -> Iterator[LargeWriter]:
    """Open a temporary file beside `path`; on success sync it and rename it to `path`, on failure delete it.

    A missing parent folder is created. Readers see the old content or the new, never a mixture; whoever could read the
    old one by its permission bits can read the new one too, whatever the umask.

    Args:
        path: The final name.
        mode: Permission bits of a new file, less the umask.
        sync: Sync the file. Without, a power failure may leave a damaged one: for what the next reader checks.
        sync_dir: Sync the folder too. Pass False when writing many files, and call `fsync_dir` once afterwards.
        keep_cached: Leave a large file in the page cache, since it is read soon.
    """
    with atomic_file(path, mode=mode, sync=sync, sync_dir=sync_dir, keep_cached=keep_cached) as file:
        stream = LargeWriter(file)
        yield stream
        stream.flush()


@contextlib.contextmanager
def atomic_file(
    path: Path, *, mode: int = 0o644, sync: bool = True, sync_dir: bool = True, keep_cached: bool = False
) -> Iterator[UncachedFile]:
    """Open a file as `atomic_writer` does, without a buffer, so that several threads can write parts of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path.parent)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        # The temporary name would tell nobody what could not be written.
        error.filename = str(path)
        raise
    try:
        with UncachedFile(descriptor) as file:
            file.keeps_cached = keep_cached
            yield file
            keep_readers(path, descriptor)
            if sync:
                file.sync()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync and sync_dir:
        fsync_dir(path.parent)


def keep_readers(path: str | Path, descriptor: int) -> None:
    """Let group and others read a new file if they could read the one that it replaces."""
    # Best effort: a file system may have modes of its own.
    with contextlib.suppress(OSError):
        old, new = os.lstat(path), os.fstat(descriptor)
        if stat.S_ISREG(old.st_mode):
            kept = stat.S_IROTH | (stat.S_IRGRP if old.st_gid == new.st_gid else 0)
            os.fchmod(descriptor, stat.S_IMODE(new.st_mode) | (old.st_mode & kept))


def temporary_path(directory: Path) -> Path:
    """Return an unused temporary name in `directory`; no file is created."""
    return directory / f"{TEMPORARY_PREFIX}{Owner.current().mark}-{os.urandom(6).hex()}"


def fsync_dir(directory: Path) -> None:
    """Write the names in `directory` to the disk, where the file system supports it."""
    # Some network file systems cannot open or sync a folder; nothing more can be done there.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
