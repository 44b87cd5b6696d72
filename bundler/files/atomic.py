"""Files that appear under their final name only whole: written beside it, synced, then renamed.

No other module renames into place on its own. What a killed process leaves has a name of `temporary_path`, by which
`bundler.files.leftovers` finds it.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bundler.files.owner import Owner
from bundler.files.uncached_file import BUFFER_BYTES, UncachedFile

# Names of half-written files. They start with a dot, so neither the Hugging Face libraries nor `ls` show them, and
# carry the mark of their process, so that a later run can tell its own leftovers from a stranger's files.
TEMPORARY_PREFIX = ".bundle-tmp-"


def atomic_write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write `content` to `path` whole or not at all (see `atomic_writer`)."""
    with atomic_writer(path, mode=mode) as stream:
        stream.write(content)


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
        with UncachedFile(descriptor, "wb") as file, io.BufferedWriter(file, BUFFER_BYTES) as stream:
            yield stream
            stream.flush()
            file.sync()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync_dir:
        fsync_dir(path.parent)


def temporary_path(directory: Path) -> Path:
    """Return a fresh name of ours in `directory`; nothing is created."""
    return directory / f"{TEMPORARY_PREFIX}{Owner.current().mark}-{secrets.token_hex(6)}"


def fsync_dir(directory: Path) -> None:
    """Make the names in `directory` durable, where the file system can."""
    # Some network file systems refuse to open or sync a folder; their rename is as durable as they offer.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
