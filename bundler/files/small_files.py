"""Many small files, each durable before it has its name, without waiting for the disk once for each.

Whoever syncs file after file waits for a commit of the file system's journal every time. Files that are synced side
by side share a commit, with the same guarantee for each of them; `make soak` shows what that is worth.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from bundler.files.atomic import atomic_writer

# What is longer keeps the disk busy alone, and would fill memory while it waits for the others.
SMALL_BYTES = 256 << 10
# Threads that do nothing but wait. More of them gain little, and each holds a file open.
_AT_ONCE = 32


class SmallFiles:
    """Writes small files; leaving the block waits for all of them.

    Not more than `_AT_ONCE` contents are kept in memory: `write` waits for a free place.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="small-files")
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._error: BaseException | None = None

    def __enter__(self) -> SmallFiles:
        return self

    def write(self, path: Path, content: bytes) -> None:
        """Have `path` written as `atomic_writer` does; its folder is left to whoever calls `fsync_dir`.

        Raises:
            OSError: An earlier one could not be written.
        """
        self._free.acquire()
        try:
            self._raise()
            self._pool.submit(self._write, path, content)
        except BaseException:
            self._free.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self._raise()

    def _write(self, path: Path, content: bytes) -> None:
        try:
            with atomic_writer(path, sync_dir=False) as stream:
                stream.write(content)
        except BaseException as error:  # raised again in the thread that asked for the file
            self._error = self._error or error
        finally:
            self._free.release()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
