"""A file that goes to the disk while it is written, so that little is left to wait for at its end.

Left to itself, the kernel starts late: the sync that ends a file of gigabytes takes as long as making it, and nothing
else is done meanwhile.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# Enough for a disk to be busy with; too little for anybody to wait for.
STEP_BYTES = 64 << 20


class SyncedFile(io.FileIO):
    """A file open for writing; call `sync` before closing it."""

    _pool: ThreadPoolExecutor | None = None
    _pending: Future[None] | None = None
    _unsynced_bytes = 0

    def write(self, data: Any, /) -> int:
        """Write, and keep the disk busy.

        Raises:
            OSError: This, or something written before, could not be.
        """
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
