"""Write many small files, each synced before it gets its name, without waiting for the disk once per file.

Syncing one file after another waits for a commit of the file system's journal each time. Files that are synced in
parallel share a commit, with the same guarantee for each. `make soak` measures the difference.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from bundler.files.atomic import atomic_writer

# Longer contents keep the disk busy by themselves, and would fill memory while they wait.
SMALL_BYTES = 256 << 10
# These threads mostly wait. More of them gain little, and each keeps a file open.
_AT_ONCE = 32


class SmallFiles:
    """Writes small files in parallel; the end of the `with` block waits for all of them.

    At most `_AT_ONCE` contents are in memory: `write` waits until there is room for another.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="small-files")
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._error: BaseException | None = None

    def __enter__(self) -> SmallFiles:
        return self

    def write(self, path: Path, content: bytes) -> None:
        """Start writing `path` as `atomic_writer` does; the caller syncs its folder with `fsync_dir`.

        Raises:
            OSError: An earlier file could not be written.
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
