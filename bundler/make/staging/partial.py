"""Partial downloads: files that stay when a process is killed; each is owned by the process that writes it.

    <etag>.<owner>    a download that is not finished, or not checked; `bundler.make.staging.ranges` says how much of it

Rule book:

* a partial download belongs to the process that renamed it to a name with its own mark. On every file system only one
  rename(2) succeeds. flock(2), which some cluster file systems ignore, only shows faster that an owner is dead;
* the partial download of a dead owner is continued; that of a living owner is waited for while it changes;
* for an owner on another machine only the time of the last change is known;
* what is no file with one name, of this user or the folder's owner, is none of these: it is neither written to nor
  waited for. Whoever may put names into the folder could let this process write to another file, or wait without end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from bundler.files.owner import Owner
from bundler.make.staging.ranges import PAGE_BYTES, Ranges, note_offset, read_note, write_note

# Seconds without a change after which a partial download of another machine is taken over: longer than any retry of the
# client takes.
ORPHAN_SECONDS = 600.0
# Seconds after which a partial download that no process continued is deleted: its commit is not wanted any more.
FORGOTTEN_SECONDS = 30 * 24 * 3600.0
# Gone; a link; and a socket, a folder or a pipe, opened to be written.
_NO_OWN_FILE = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR)


class Partial:
    """A download in progress: a file that this process owns until the download is finished or given up.

    Several threads may write to different ranges at the same time.

    Args:
        path: Where the bytes are.
        file: The open file, unbuffered, so that written bytes are kept when the process is killed.
        content_bytes: The length of the finished download.

    Attributes:
        path: Where the bytes are.
        file: The open file.
        content_bytes: The length of the finished download.
    """

    def __init__(self, path: Path, file: FileIO, content_bytes: int) -> None:
        self.path = path
        self.file = file
        self.content_bytes = content_bytes
        self._mutex = threading.Lock()
        self._ranges, self._has_note = _read_ranges(file, content_bytes)
        if self._has_note and not self._ranges.size_bytes:
            self.clear()

    @property
    def size_bytes(self) -> int:
        """How many bytes of the content are there."""
        with self._mutex:
            return self._ranges.size_bytes

    @property
    def front_bytes(self) -> int:
        """How many bytes are there from the first one on, without a hole."""
        with self._mutex:
            return self._ranges.front_bytes

    def missing(self) -> list[tuple[int, int]]:
        """Return first byte and the byte after the last of each hole, in order."""
        with self._mutex:
            return list(self._ranges.missing(self.content_bytes))

    def read(self, start: int, count: int) -> bytes:
        """Read bytes that are there; fewer at the end of the file."""
        return os.pread(self.file.fileno(), count, start)

    def write(self, block: bytes) -> None:
        """Append all of `block` to the bytes at the front."""
        with self._mutex:
            assert not self._has_note, "what has holes is written at an offset"
            start = self._ranges.front_bytes
            self._write(start, block)
            self._ranges.add(start, start + len(block))

    def write_at(self, start: int, block: bytes) -> None:
        """Write all of `block` at an offset; `note` must have been called before the first one."""
        assert self._has_note, "a file with holes could be taken for a prefix"
        self._write(start, block)
        with self._mutex:
            self._ranges.add(start, start + len(block))

    def note(self) -> None:
        """Write down which ranges are there, for the case that this process dies."""
        with self._mutex:
            self._has_note = True
            self._write(note_offset(self.content_bytes), write_note(self._ranges))

    def cut_to_front(self) -> None:
        """Forget what is not at the front, and all notes: the file is a prefix then."""
        with self._mutex:
            front = self._ranges.front_bytes
            self.file.truncate(front)
            self._ranges, self._has_note = Ranges([(0, front)]), False

    def clear(self) -> None:
        """Delete the content, to begin again."""
        with self._mutex:
            self.file.truncate(0)
            self._ranges, self._has_note = Ranges(), False

    def _write(self, start: int, block: bytes) -> None:
        # A single write may write only a part.
        rest = memoryview(block)
        while rest:
            count = os.pwrite(self.file.fileno(), rest, start)
            rest, start = rest[count:], start + count


def _read_ranges(file: FileIO, content_bytes: int) -> tuple[Ranges, bool]:
    """Return which ranges are there, and whether a note says so."""
    length = os.fstat(file.fileno()).st_size
    if length <= content_bytes:
        return Ranges([(0, length)]), False
    return read_note(os.pread(file.fileno(), PAGE_BYTES, note_offset(content_bytes)), content_bytes), True


class PartialFolder:
    """The folder of partial downloads (see the module's text).

    Args:
        root: The folder; it must exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def own(
        self, etag: str, content_bytes: int, *, is_stored: Callable[[], bool], patience_seconds: float = 60.0
    ) -> Iterator[Partial | None]:
        """Own the partial download of `etag`: continue that of a dead process, or begin a new one.

        While another living process on this machine downloads the same content, this waits for it. If that process
        writes nothing for `patience_seconds`, both download.

        Args:
            etag: The content.
            content_bytes: Its length.
            is_stored: Returns whether another process has finished the download.
            patience_seconds: How long another process's file may stay unchanged.

        Yields:
            The file, or None when `is_stored()`. A file that was not moved away by the end of the block stays for the
            next run.
        """
        partial = self._claim(etag, content_bytes, is_stored, patience_seconds)
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

    def size_bytes(self, etag: str, content_bytes: int) -> int:
        """Return how many bytes of `etag`, a content of that length, an earlier run left."""
        most = 0
        for path, _, _ in self._list(etag):
            if (file := _open(path, os.O_RDONLY)) is not None:
                with file:
                    most = max(most, _read_ranges(file, content_bytes)[0].size_bytes)
        return most

    def sweep(self, now: float) -> None:
        """Delete files that were not continued for `FORGOTTEN_SECONDS` before `now` (seconds since the epoch)."""
        for path in self._root.iterdir():
            with contextlib.suppress(FileNotFoundError):
                mtime = path.lstat().st_mtime
                if now - mtime > FORGOTTEN_SECONDS and not may_be_alive(path, mtime, FORGOTTEN_SECONDS):
                    path.unlink()

    def _list(self, etag: str) -> list[tuple[Path, int, float]]:
        """Return path, room in bytes and time of the last change of each file for `etag`, the largest first."""
        found = []
        for path in self._root.glob(f"{etag}.*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if _is_own_file(status, self._root):
                    # Holes take no room.
                    found.append((path, min(status.st_size, 512 * status.st_blocks), status.st_mtime))
        return sorted(found, key=lambda item: item[1], reverse=True)

    def _claim(
        self, etag: str, content_bytes: int, is_stored: Callable[[], bool], patience_seconds: float
    ) -> Partial | None:
        changed_at, last = time.monotonic(), 0.0
        while True:
            if is_stored():
                return None
            waiting_for = 0.0
            for path, _, mtime in self._list(etag):
                if partial := self._take_over(path, etag, content_bytes, mtime):
                    return partial
                waiting_for = max(waiting_for, mtime)
            if waiting_for > last:
                changed_at, last = time.monotonic(), waiting_for
            if not waiting_for or time.monotonic() - changed_at > patience_seconds:
                own = self._own_name(etag)
                file = _open_locked(own, os.O_CREAT | os.O_EXCL)
                assert file is not None, "a fresh name is nobody else's"
                return Partial(own, file, content_bytes)
            time.sleep(0.1)

    def _own_name(self, etag: str) -> Path:
        return self._root / f"{etag}.{owner_mark()}"

    def _take_over(self, path: Path, etag: str, content_bytes: int, mtime: float) -> Partial | None:
        """Rename the partial download of a dead owner to our name and open it; None if the owner may be alive."""
        if may_be_alive(path, mtime, ORPHAN_SECONDS):
            return None
        file = _open_locked(path)
        if file is None:
            return None
        own = self._own_name(etag)
        with contextlib.suppress(FileNotFoundError):
            path.rename(own)
            # The name may have come to be another file's since it was opened.
            if os.path.samestat(os.fstat(file.fileno()), own.lstat()):
                return Partial(own, file, content_bytes)
        file.close()
        return None


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
    """Open a file to read and write, with an exclusive flock; None if another process has the lock, or as `_open`."""
    if (file := _open(path, os.O_RDWR | flags)) is None:
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


def _open(path: Path, flags: int) -> FileIO | None:
    """Open a file of this user's; None if it is gone, or none."""
    # Without waiting for the other end of a pipe.
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = FileIO(path, "r+" if flags & os.O_RDWR else "r", opener=lambda name, _: os.open(name, flags, 0o644))
    except OSError as error:
        if error.errno in _NO_OWN_FILE:
            return None
        raise
    # As what is made now is; some file systems give it another owner than this process has.
    if not flags & os.O_EXCL and not _is_own_file(os.fstat(file.fileno()), path.parent):
        file.close()
        return None
    return file


def _is_own_file(status: os.stat_result, folder: Path) -> bool:
    is_ours = status.st_uid in (os.geteuid(), folder.stat().st_uid)
    return is_ours and stat.S_ISREG(status.st_mode) and status.st_nlink == 1
