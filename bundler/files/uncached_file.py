"""A file that goes to the disk while it is written, so that little is left to wait for at its end.

Left to itself, the kernel starts late: the sync that ends a file of gigabytes takes as long as making it, and nothing
else is done meanwhile. It also keeps all of it in the page cache, for which it must find, and perhaps take from
somebody, as many free pages; where that costs more than the disk does, as in many virtual machines, it is what
writing costs. So what is large is written uncached (`RWF_DONTCACHE`, Linux 6.14): the pages are written and used
again at once. Older kernels, and file systems that refuse it, get a sync now and then in a thread of its own.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# Enough for a disk to be busy with; too little for anybody to wait for.
STEP_BYTES = 64 << 20
# What is written in smaller pieces, such as all of a small file, stays in the page cache: it will be read soon.
LARGE_WRITE_BYTES = 1 << 20
# For a buffered writer above it: what collects there is large when it comes down.
BUFFER_BYTES = 4 * LARGE_WRITE_BYTES
# linux/fs.h; `os` does not name it.
_RWF_DONTCACHE = 0x80
_HERE = -1  # pwritev2(2): at the file's own position, which moves on


class UncachedFile(io.FileIO):
    """A file open for writing; call `sync` before closing it."""

    _takes_uncached = True
    _pool: ThreadPoolExecutor | None = None
    _pending: Future[None] | None = None
    _unsynced_bytes = 0

    def write(self, data: Any, /) -> int:
        """Write, and keep the disk busy.

        Raises:
            OSError: This, or something written before, could not be.
        """
        if self._takes_uncached and memoryview(data).nbytes >= LARGE_WRITE_BYTES:
            try:
                return os.pwritev(self.fileno(), [data], _HERE, _RWF_DONTCACHE)
            except (OSError, NotImplementedError):
                # What else may be wrong, the write below says.
                self._takes_uncached = False
        count = super().write(data)
        self._unsynced_bytes += count
        if self._unsynced_bytes >= STEP_BYTES and (self._pending is None or self._pending.done()):
            self._wait()
            self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="sync")
            self._pending = self._pool.submit(os.fdatasync, self.fileno())
            self._unsynced_bytes = 0
        return count

    def sync(self) -> None:
        """Wait until all that was written is on the disk.

        Raises:
            OSError: Some of it could not be written.
        """
        self._wait()
        os.fsync(self.fileno())

    def close(self) -> None:
        """Close the file."""
        # A descriptor that is closed under a sync may be another file's by then.
        if self._pool:
            self._pool.shutdown(wait=True)
            self._pool = None
        super().close()

    def _wait(self) -> None:
        # The kernel tells of a failure once: if to this thread of ours, then not again at the end.
        if self._pending:
            self._pending.result()
        self._pending = None
