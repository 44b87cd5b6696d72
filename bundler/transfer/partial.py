"""A file on its way from an address: parts that come side by side, and exactly how far each has come.

    .NAME.partial        the content, with holes
    .NAME.partial.note   a line of JSON that says of what it is, then a counter for each part

Rule book:

* a counter is written after the bytes that it counts, block by block: a process that is killed has lost a block of each
  part at most, and the next one goes on from there;
* a note of another object, by length, by version or by the size of its parts, counts as none; so does one that is
  malformed;
* one process at a time writes (flock);
* a name that leads to what is not this user's alone (a link, a file of another user, one that others may write to or
  that has a second name) is given to a new file: what it led to stays as it is, and nobody else holds the new one open.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from bundler.errors import AccessError, ChangedError, UsageError

PART_BYTES = 32 << 20
_HEAD_BYTES = 4096
_COUNTER = struct.Struct("<Q")
_OPEN_TRIES = 10
# What the system says of a link, a socket, a pipe without a reader, and a file that only its owner may open.
_NO_OWN_FILE = (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM)


class PartialFile:
    """A file that is being brought; a context manager that closes it.

    Nothing is written before `begin`: until then it is known how much is there, and room can be checked.

    Args:
        target: What it is to become.
        version: What tells this object from others.
        size_bytes: Its length.

    Attributes:
        path: Where the bytes are.

    Raises:
        UsageError: Another process is bringing it.
        AccessError: Somebody else puts files where it is to be written.
        OSError: It cannot be written.
    """

    def __init__(self, target: Path, version: str, size_bytes: int) -> None:
        self.target, self.path = target, target.with_name(f".{target.name}.partial")
        self._note_path = target.with_name(f".{target.name}.partial.note")
        self._size_bytes = size_bytes
        head = json.dumps({"version": version, "size_bytes": size_bytes, "part_bytes": PART_BYTES}).encode()
        self._head = head.ljust(_HEAD_BYTES)
        with contextlib.ExitStack() as opened:
            self._note = self._open_note()
            opened.callback(os.close, self._note)
            self._file = _open_own(self.path)
            opened.callback(os.close, self._file)
            if not self._is_of_this_object():
                self.clear()
            opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        os.close(self._note)

    def clear(self) -> None:
        """Forget all that is there."""
        os.ftruncate(self._note, 0)
        os.ftruncate(self._file, 0)

    def begin(self) -> None:
        """Make room for what is to be written; call it before `write`."""
        if not os.fstat(self._note).st_size:
            os.ftruncate(self._file, self._size_bytes)
            os.ftruncate(self._note, self._note_bytes)
            os.pwrite(self._note, self._head, 0)

    @property
    def parts(self) -> int:
        """How many parts it has."""
        return -(-self._size_bytes // PART_BYTES)

    def span(self, number: int) -> tuple[int, int]:
        """Return what a part lacks: the first byte, and the byte after its last."""
        start = number * PART_BYTES
        return start + self._count(number), min(start + PART_BYTES, self._size_bytes)

    @property
    def done_bytes(self) -> int:
        """How much is there."""
        return sum(self._counts()) if os.fstat(self._note).st_size else 0

    def write(self, number: int, block: memoryview) -> None:
        """Write the next bytes of a part; one thread a part."""
        done = self._count(number)
        start = number * PART_BYTES + done
        written = 0
        while written < len(block):
            written += os.pwrite(self._file, block[written:], start + written)
        os.pwrite(self._note, _COUNTER.pack(done + written), _HEAD_BYTES + _COUNTER.size * number)

    def finish(self) -> None:
        """Give the file its name, and forget the note: all of it is there, and was verified.

        Raises:
            ChangedError: Another file has come to its name meanwhile.
        """
        os.fsync(self._file)
        if not _has_name(self._file, self.path):
            raise ChangedError(
                f"{self.path}: somebody has put another file in the place of this one while it was written",
                hint="pull into a folder that nobody else may write to",
            )
        self.path.rename(self.target)
        self.delete()

    def delete(self) -> None:
        """Delete both files, where they are."""
        for path in (self.path, self._note_path):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    @property
    def _note_bytes(self) -> int:
        return _HEAD_BYTES + _COUNTER.size * self.parts

    def _count(self, number: int) -> int:
        found = os.pread(self._note, _COUNTER.size, _HEAD_BYTES + _COUNTER.size * number)
        return int(_COUNTER.unpack(found)[0])

    def _counts(self) -> Iterator[int]:
        return (self._count(number) for number in range(self.parts))

    def _is_of_this_object(self) -> bool:
        """Tell whether the note is whole, and one of this object."""
        sizes = os.fstat(self._note).st_size, os.fstat(self._file).st_size
        if sizes != (self._note_bytes, self._size_bytes) or os.pread(self._note, _HEAD_BYTES, 0) != self._head:
            return False
        return all(
            count <= min(PART_BYTES, self._size_bytes - number * PART_BYTES)
            for number, count in enumerate(self._counts())
        )

    def _open_note(self) -> int:
        """Open and lock the note under its name: who had the lock before may have deleted it since it was opened."""
        for _ in range(_OPEN_TRIES):
            note = _open_own(self._note_path)
            try:
                fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(note)
                raise UsageError(
                    f"{self.target}: another process is pulling it", hint="wait for that one"
                ) from None
            except BaseException:
                os.close(note)
                raise
            if _has_name(note, self._note_path):
                return note
            os.close(note)
        raise _explain_others(self._note_path)


def _open_own(path: Path) -> int:
    """Open a file that is this user's alone; whatever else has its name loses it to a new one.

    Raises:
        AccessError: Somebody else puts something there again and again.
    """
    # Without waiting for the other end of a pipe.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for _ in range(_OPEN_TRIES):
        with contextlib.suppress(FileExistsError):
            # What is made here is ours, whatever owner and mode its file system gives it.
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
        with contextlib.suppress(FileNotFoundError):
            try:
                descriptor = os.open(path, flags)
            except OSError as error:
                if error.errno not in _NO_OWN_FILE:
                    raise
            else:
                if _is_own(os.fstat(descriptor), path.parent):
                    return descriptor
                os.close(descriptor)
            path.unlink()
    raise _explain_others(path)


def _is_own(status: os.stat_result, folder: Path) -> bool:
    # Some file systems give a file the owner of its folder, who could replace it anyway.
    is_ours = status.st_uid in (os.geteuid(), folder.stat().st_uid)
    may_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_ours and not may_others and stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _has_name(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _explain_others(path: Path) -> AccessError:
    return AccessError(
        f"{path}: somebody else puts files there while this one is to be written",
        hint="pull into a folder that nobody else may write to",
    )
