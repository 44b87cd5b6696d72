"""A file that goes to the disk while it is written, so that the sync at its end is short.

By default the kernel starts writing late: the sync at the end of a file of gigabytes takes as long as producing the
file, and nothing else is done meanwhile. The kernel also keeps the whole file in the page cache and must find free
pages for it, which in many virtual machines takes longer than the disk. So large writes are uncached
(`RWF_DONTCACHE`, Linux 6.14): their pages are written and reused at once. On older kernels, and on file systems that
refuse the flag, and on other systems, a thread syncs the file now and then.

What is read soon, and fits into memory beside all else (`fits_in_page_cache`), is better left there: reading it back
from the disk costs more than finding the pages.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

# Enough to keep a disk busy, and little enough that waiting for it is short.
STEP_BYTES = 64 << 20
# Smaller writes, such as a whole small file, stay in the page cache: small files are read again soon.
LARGE_WRITE_BYTES = 1 << 20
# From linux/fs.h; Python's `os` does not define it.
_RWF_DONTCACHE = 0x80
# Of one call (IOV_MAX of Linux and macOS).
_MOST_PARTS = 1024
_HERE = -1  # pwritev2(2): write at the file's own position, and move it


class UncachedFile(io.FileIO):
    """A file open for writing; call `sync` before closing it.

    Attributes:
        keeps_cached: Whether what is written stays in the page cache; it goes to the disk as soon all the same.
    """

    keeps_cached = False
    _takes_uncached = True
    _pool: ThreadPoolExecutor | None = None
    _pending: Future[None] | None = None
    _unsynced_bytes = 0

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb")
        self._mutex = threading.Lock()

    def write(self, data: Any, /) -> int:
        """Write `data`, and start sending it to the disk.

        Raises:
            OSError: This, or data written before, could not be written.
        """
        self.write_all([data])
        return memoryview(data).nbytes

    def write_all(self, parts: Sequence[Any]) -> None:
        """Write all of several parts, one after the other, and start sending them to the disk.

        Raises:
            OSError: These, or data written before, could not be written.
        """
        views = [memoryview(part).cast("B") for part in parts]
        while any(views):
            some = views[:_MOST_PARTS]
            count = self._write_uncached(some, _HERE)
            if count is None:
                count = os.writev(self.fileno(), some)
                self._start_sync(count)
            views = list(_drop(views, count))

    def write_at(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`, and start sending it to the disk. Several threads may write at once.

        Raises:
            OSError: This, or data written before, could not be written.
        """
        while data:
            count = self._write_uncached([data], offset)
            if count is None:
                count = os.pwrite(self.fileno(), data, offset)
                with self._mutex:
                    self._start_sync(count)
            data, offset = data[count:], offset + count

    def _write_uncached(self, views: Sequence[memoryview], offset: int) -> int | None:
        """Write some of `views` past the page cache; return None where that is not wanted, or not to be had."""
        if self._takes_uncached and not self.keeps_cached and sum(map(len, views)) >= LARGE_WRITE_BYTES:
            try:
                return os.pwritev(self.fileno(), views, offset, _RWF_DONTCACHE)
            except (OSError, NotImplementedError, AttributeError):
                # Any other fault is reported by the plain write that follows.
                self._takes_uncached = False
        return None

    def _start_sync(self, count: int) -> None:
        self._unsynced_bytes += count
        if self._unsynced_bytes >= STEP_BYTES and (self._pending is None or self._pending.done()):
            self._wait()
            self._pool = self._pool or _make_pool()
            self._pending = self._pool.submit(_sync_data, self.fileno())
            self._unsynced_bytes = 0

    def sync(self) -> None:
        """Wait until all that was written is on the disk.

        Raises:
            OSError: Some of it could not be written.
        """
        self._wait()
        os.fsync(self.fileno())

    def close(self) -> None:
        """Close the file."""
        # Wait first: a number that is closed during a sync may belong to another file by then.
        if self._pool:
            self._pool.shutdown(wait=True)
            self._pool = None
        super().close()

    def _wait(self) -> None:
        # The kernel reports a failed write once. If the thread got the report, the last sync would not see it.
        if self._pending:
            self._pending.result()
        self._pending = None


class LargeWriter:
    """Gathers what is written into large writes, without a copy of what is large by itself; call `flush` at the end."""

    def __init__(self, file: UncachedFile) -> None:
        self._file = file
        self._waiting = bytearray()

    def write(self, data: Any, /) -> int:
        """Write `data`, at once or together with what follows.

        Raises:
            OSError: This, or data written before, could not be written.
        """
        view = memoryview(data).cast("B")
        if len(self._waiting) + len(view) < LARGE_WRITE_BYTES:
            self._waiting += view
        else:
            self._file.write_all([self._waiting, view])
            # Not before: after a failure no `flush` is to succeed as if all were there.
            self._waiting = bytearray()
        return len(view)

    def writelines(self, parts: Iterable[Any], /) -> None:
        """Write all of `parts`, one after the other (see `write`)."""
        for part in parts:
            self.write(part)

    def flush(self) -> None:
        """Write what is waiting.

        Raises:
            OSError: This, or data written before, could not be written.
        """
        self._file.write_all([self._waiting])
        self._waiting = bytearray()

    def tell(self) -> int:
        """Return how many bytes were written, or are waiting."""
        return self._file.tell() + len(self._waiting)


def _drop(views: Sequence[memoryview], count: int) -> Iterator[memoryview]:
    """Yield what is left of `views` behind their first `count` bytes."""
    for view in views:
        if count < len(view):
            yield view[count:]
        count = max(count - len(view), 0)


def _sync_data(descriptor: int) -> None:
    # macOS has only the other, which writes the times of the file too.
    getattr(os, "fdatasync", os.fsync)(descriptor)


def _make_pool() -> ThreadPoolExecutor:
    # Few files are large enough for one, and whoever writes none need not load it.
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, thread_name_prefix="sync")


def fits_in_page_cache(size_bytes: int, *, system: Path = Path("/")) -> bool:
    """Tell whether so many bytes take at most half of the memory that is to be had without swapping.

    Args:
        size_bytes: How many.
        system: Where `proc` and `sys` are mounted.
    """
    return size_bytes <= min(_list_free_memory(system), default=0) // 2


def _list_free_memory(system: Path) -> Iterator[int]:
    """Yield what is free in the machine, and in each control group with a limit that this process is in, in bytes."""
    with contextlib.suppress(OSError):
        for line in (system / "proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024
    with contextlib.suppress(OSError):
        # Version 2 has one hierarchy, `0::/PATH`.
        lines = (system / "proc/self/cgroup").read_text("ascii").splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::")), "/")
        place = system / "sys/fs/cgroup" / path.lstrip("/")
        for group in (place, *place.parents):
            with contextlib.suppress(OSError, ValueError):  # "max"
                limit = int((group / "memory.max").read_text("ascii"))
                yield max(limit - int((group / "memory.current").read_text("ascii")), 0)
