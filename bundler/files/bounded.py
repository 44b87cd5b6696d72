"""Read a file that somebody else wrote: a file and nothing else, and no more of it than is expected."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file; a link is not followed, and neither a pipe nor a device is waited for.
        most_bytes: The most that it may hold.

    Raises:
        OSError: It cannot be read, is no regular file, or is longer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path}: expected a regular file")
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(f"{path}: expected at most {most_bytes} bytes, found more")
    return content


def read_tail(path: Path, most_bytes: int) -> bytes:
    """Return the end of a file of ours that others write to, such as a log.

    Args:
        path: The file.
        most_bytes: How much of it, at most.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - most_bytes))
        return stream.read(most_bytes)
