"""Partial downloads: files that stay when a process is killed; each is owned by the process that writes it.

    <etag>.<owner>           a download that is not finished, or not checked

Rule book:

* a partial download belongs to the process that renamed it to a name with its own mark. On every file system only one
  rename(2) succeeds. flock(2), which some cluster file systems ignore, only shows faster that an owner is dead;
* the partial download of a dead owner is continued; that of a living owner is waited for while it grows;
* for an owner on another machine only the time of the last change is known.
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

# Seconds without growth after which a partial download of another machine is taken over: longer than any retry of the
# client takes.
ORPHAN_SECONDS = 600.0
# Seconds after which a partial download that no process continued is deleted: its commit is not wanted any more.
FORGOTTEN_SECONDS = 30 * 24 * 3600.0


class Partial:
    """A download in progress: a file that this process owns until the download is finished or given up.

    Attributes:
        path: Where the bytes are.
        file: The open file, unbuffered, so that written bytes are kept when the process is killed.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.file = file

    @property
    def size_bytes(self) -> int:
        """How many bytes the file has."""
        return os.fstat(self.file.fileno()).st_size

    def write(self, block: bytes) -> None:
        """Append all of `block`; a single write to a raw file may write only a part."""
        rest = memoryview(block)
        while rest:
            rest = rest[self.file.write(rest) :]

    def clear(self) -> None:
        """Delete the content, to begin again."""
        self.file.seek(0)
        self.file.truncate()


class PartialFolder:
    """The folder of partial downloads (see the module's text).

    Args:
        root: The folder; it must exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def own(
        self, etag: str, *, is_stored: Callable[[], bool], patience_seconds: float = 60.0
    ) -> Iterator[Partial | None]:
        """Own the partial download of `etag`: continue that of a dead process, or begin a new one.

        While another living process on this machine downloads the same content, this waits for it. If that process
        makes no progress for `patience_seconds`, both download.

        Args:
            etag: The content.
            is_stored: Returns whether another process has finished the download.
            patience_seconds: How long another process's file may stay unchanged.

        Yields:
            The file, or None when `is_stored()`. A file that was not moved away by the end of the block stays for the
            next run.
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
        """Return how many bytes of `etag` an earlier run left."""
        return max((size for _, size, _ in self._list(etag)), default=0)

    def sweep(self, now: float) -> None:
        """Delete files that were not continued for `FORGOTTEN_SECONDS` before `now` (seconds since the epoch)."""
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
        """Rename the partial download of a dead owner to our name and open it; None if the owner may be alive."""
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
    """Return a suffix for the name of a file or folder of this process; a different one each time."""
    return f"{Owner.current().mark}-{secrets.token_hex(4)}"


def may_be_alive(path: Path, mtime: float, orphan_seconds: float) -> bool:
    """Return whether the process whose mark ends the name of `path` may still use it.

    Args:
        path: The file or folder.
        mtime: Its last change, in seconds since the epoch.
        orphan_seconds: Time without a change after which an owner on another machine counts as dead.
    """
    owner = Owner.parse(path.name.rpartition(".")[2])
    idle_seconds = time.time() - mtime
    if owner is None:
        return idle_seconds < orphan_seconds
    return owner.may_be_alive(idle_seconds=idle_seconds, patience_seconds=orphan_seconds)


def _open_locked(path: Path, flags: int = 0) -> FileIO | None:
    """Open a file to read and write, with an exclusive flock; None if it is gone or another process has the lock."""
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
        # This file system has no locks: only the names decide.
        pass
    return file
