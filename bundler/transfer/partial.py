"""A file on its way from an address: parts that come side by side, and exactly how far each has come.

    .NAME.partial        the content, with holes
    .NAME.partial.note   a line of JSON that says of what it is, then a counter for each part

Rule book:

* a counter is written after the bytes that it counts, block by block: a process that is killed has lost a block of each
  part at most, and the next one goes on from there;
* a note of another object, by length, by version or by the size of its parts, counts as none;
* one process at a time writes (flock).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from bundler.errors import UsageError

PART_BYTES = 32 << 20
_HEAD_BYTES = 4096
_COUNTER = struct.Struct("<Q")


class PartialFile:
    """A file that is being brought; a context manager that closes it.

    Args:
        target: What it is to become.
        version: What tells this object from others.
        size_bytes: Its length.

    Attributes:
        path: Where the bytes are.

    Raises:
        UsageError: Another process is bringing it.
        OSError: It cannot be written.
    """

    def __init__(self, target: Path, version: str, size_bytes: int) -> None:
        self.target, self.path = target, target.with_name(f".{target.name}.partial")
        self._note_path = target.with_name(f".{target.name}.partial.note")
        self._size_bytes = size_bytes
        self._note = os.open(self._note_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(self._note, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{target}: another process is pulling it", hint="wait for that one") from None
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except BaseException:
            os.close(self._note)
            raise
        head = json.dumps({"version": version, "size_bytes": size_bytes, "part_bytes": PART_BYTES}).encode()
        self._head = head.ljust(_HEAD_BYTES)
        if os.pread(self._note, _HEAD_BYTES, 0) != self._head or os.fstat(self._file).st_size != size_bytes:
            self.clear()

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
        os.ftruncate(self._file, self._size_bytes)
        os.ftruncate(self._note, _HEAD_BYTES + _COUNTER.size * self.parts)
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
        return sum(self._count(number) for number in range(self.parts))

    def write(self, number: int, block: memoryview) -> None:
        """Write the next bytes of a part; one thread a part."""
        done = self._count(number)
        start = number * PART_BYTES + done
        written = 0
        while written < len(block):
            written += os.pwrite(self._file, block[written:], start + written)
        os.pwrite(self._note, _COUNTER.pack(done + written), _HEAD_BYTES + _COUNTER.size * number)

    def finish(self) -> None:
        """Give the file its name, and forget the note: all of it is there, and was verified."""
        os.fsync(self._file)
        self.path.rename(self.target)
        self.delete()

    def delete(self) -> None:
        """Delete both files, where they are."""
        for path in (self.path, self._note_path):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _count(self, number: int) -> int:
        found = os.pread(self._note, _COUNTER.size, _HEAD_BYTES + _COUNTER.size * number)
        return int(_COUNTER.unpack(found)[0])
