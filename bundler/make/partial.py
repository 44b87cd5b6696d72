"""Partial downloads: files that outlive a killed process, each owned by the one process that writes it.

    <etag>.<owner>           a download that is not finished, or not checked

Rule book:

* a partial download belongs to the process that renamed it to its own name. rename(2) lets one process win
  everywhere; flock(2), which some cluster file systems ignore, only speeds up noticing that an owner is gone;
* a dead owner's one is continued; a living one's is waited for, while it grows;
* of another machine's owner nothing is known but when the file last grew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from bundler.files.owner import Owner

# A partial download of another machine is taken over when it has not grown for this long: longer than any retry of
# the client, shorter than a person's patience.
ORPHAN_SECONDS = 600.0
# A partial download that nobody continued for this long belongs to a commit that nobody wants any more.
FORGOTTEN_SECONDS = 30 * 24 * 3600.0


class Partial:
    """A download in progress: a file that this process owns until it is finished or let go.

    Attributes:
        path: Where the bytes are.
        file: The open file, unbuffered: what was written is kept when the process is killed.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.file = file

    @property
    def size_bytes(self) -> int:
        """How much is there already."""
        return os.fstat(self.file.fileno()).st_size

    def write(self, block: bytes) -> None:
        """Append `block`, all of it: a raw file may take less at a time."""
        rest = memoryview(block)
        while rest:
            rest = rest[self.file.write(rest) :]

    def clear(self) -> None:
        """Throw away what is there and begin again."""
        self.file.seek(0)
        self.file.truncate()


class PartialFolder:
    """The folder of partial downloads (see the module's text).

    Args:
        root: The folder; it exists.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def own(
        self, etag: str, *, is_stored: Callable[[], bool], patience_seconds: float = 60.0
    ) -> Iterator[Partial | None]:
        """Own the partial download of `etag`: a dead process's one is continued, else a new one begins.

        While a living process on this machine downloads the same content, this waits for it; when that one does
        not get on for `patience_seconds`, both download.

        Args:
            etag: The content.
            is_stored: Tells whether the process that was waited for has finished it.
            patience_seconds: How long another process's file may stand still.

        Yields:
            The file, or None once `is_stored`. What is not moved away by the end of the block stays, for the next
            run.
        """
        partial = self._claim(etag, is_stored, patience_seconds)
        if partial is None:
            yield None
            return
        try:
            yield partial
        finally:
            partial.file.close()
            with contextlib.suppress(FileNotFoundError):
                if partial.path.stat().st_size == 0:
                    partial.path.unlink()

    def size_bytes(self, etag: str) -> int:
        """Return how much of `etag` an earlier run left behind."""
        return max((size for _, size, _ in self._list(etag)), default=0)

    def sweep(self, now: float) -> None:
        """Remove what nobody continued for `FORGOTTEN_SECONDS` before `now`, in seconds since the epoch."""
        for path in self._root.iterdir():
            with contextlib.suppress(FileNotFoundError):
                mtime = path.stat().st_mtime
                if now - mtime > FORGOTTEN_SECONDS and not may_be_alive(path, mtime, FORGOTTEN_SECONDS):
                    path.unlink()

    def _list(self, etag: str) -> list[tuple[Path, int, float]]:
        """Return path, size in bytes and time of the last change of each file for `etag`, the largest first."""
        found = []
        for path in self._root.glob(f"{etag}.*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((path, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda item: item[1], reverse=True)

    def _claim(self, etag: str, is_stored: Callable[[], bool], patience_seconds: float) -> Partial | None:
        grown_at, last = time.monotonic(), -1
        while True:
            if last >= 0 and is_stored():
                return None
            waiting_for = -1
            for path, size, mtime in self._list(etag):
                if partial := self._take_over(path, etag, mtime):
                    return partial
                waiting_for = max(waiting_for, size)
            if waiting_for > last:
                grown_at, last = time.monotonic(), waiting_for
            if waiting_for < 0 or time.monotonic() - grown_at > patience_seconds:
                own = self._own_name(etag)
                file = _open_locked(own, os.O_CREAT | os.O_EXCL)
                assert file is not None, "a fresh name cannot be locked by another process"
                return Partial(own, file)
            time.sleep(0.1)

    def _own_name(self, etag: str) -> Path:
        return self._root / f"{etag}.{owner_mark()}"

    def _take_over(self, path: Path, etag: str, mtime: float) -> Partial | None:
        """Rename a dead owner's partial download to ours and open it; None if the owner may be alive."""
        if may_be_alive(path, mtime, ORPHAN_SECONDS):
            return None
        file = _open_locked(path)
        if file is None:
            return None
        own = self._own_name(etag)
        try:
            path.rename(own)
        except FileNotFoundError:
            file.close()
            return None
        file.seek(0, os.SEEK_END)
        return Partial(own, file)


def owner_mark() -> str:
    """Return an ending for the name of a file or folder that belongs to this process; another one each time."""
    return f"{Owner.current().mark}-{secrets.token_hex(4)}"


def may_be_alive(path: Path, mtime: float, orphan_seconds: float) -> bool:
    """Tell whether the process whose mark is at the end of `path`'s name may still be using it."""
    owner = Owner.parse(path.name.rpartition(".")[2])
    idle_seconds = time.time() - mtime
    if owner is None:
        return idle_seconds < orphan_seconds
    return owner.may_be_alive(idle_seconds=idle_seconds, patience_seconds=orphan_seconds)


def _open_locked(path: Path, flags: int = 0) -> FileIO | None:
    """Open a file for reading and writing with an exclusive lock; None if it is gone or somebody has the lock."""
    try:
        file = FileIO(path, "r+", opener=lambda name, _: os.open(name, os.O_RDWR | os.O_CLOEXEC | flags, 0o644))
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        # No locks on this file system: the names alone decide.
        pass
    return file
