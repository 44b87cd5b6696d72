"""Write many small files, each on the disk before it gets its name, without waiting for the disk once per file.

Files are written under temporary names, batch by batch; one syncfs(2) brings a batch to the disk, and then each gets
its name. That is as safe as syncing each file where syncfs waits for content and tells of every failed write: on Linux
5.8 and newer, and a local file system (`_LOCAL_TYPES`). If it tells of one, each file is asked by itself.

On other file systems files are synced in parallel: those that wait together share a commit of the journal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from bundler.files.atomic import TEMPORARY_PREFIX, atomic_writer, keep_readers
from bundler.files.owner import Owner

# Longer contents keep the disk busy by themselves, and would fill memory while they wait.
SMALL_BYTES = 256 << 10
# What waits for one syncfs(2). A process that is killed loses so much, which the next one writes again.
_BATCH_FILES = 4096
_BATCH_BYTES = 64 << 20
# Fewer are synced one by one: syncfs(2) waits for what other programs have written, too.
_MANY_FILES = 64
# Threads that sync files one by one mostly wait. More of them gain little, and each keeps a file open.
_AT_ONCE = 32

# The first release whose syncfs(2) tells of content that could not be written.
_TELLING_LINUX = (5, 8)
# Magic numbers of statfs(2): ext2 to ext4, XFS, Btrfs, tmpfs, F2FS. Of what servers hold, syncfs(2) promises less.
_LOCAL_TYPES = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0xF2F52010})
# Longer than struct statfs of any machine.
_STATFS_BYTES = 256


class SmallFiles:
    """Writes small files; the end of the `with` block waits for all of them, also where it ends with an error."""

    def __init__(self) -> None:
        self._writers: dict[str, _Batches | _Threads] = {}
        self._batches: _Batches | None = None
        self._threads: _Threads | None = None

    def __enter__(self) -> SmallFiles:
        return self

    def write(self, path: str | Path, content: bytes) -> None:
        """Write `path` as `atomic_writer` does, soon; the caller syncs its folder with `fsync_dir`.

        Raises:
            OSError: This file, or an earlier one, could not be written.
        """
        folder = os.path.dirname(path)  # noqa: PTH120 -- strings: a Path for each of 100,000 files takes seconds
        if (writer := self._writers.get(folder)) is None:
            writer = self._writers[folder] = self._choose(folder)
        writer.write(str(path), content)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:
            for writer in (self._batches, self._threads):
                if writer is not None:
                    stack.callback(writer.finish, raises=error is None)

    def _choose(self, folder: str) -> _Batches | _Threads:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 -- as above
        if _is_safe_to_sync_whole(folder):
            if self._batches is None:
                self._batches = _Batches()
            return self._batches
        if self._threads is None:
            self._threads = _Threads()
        return self._threads


class _Batches:
    """Files that get their names after one sync of their file systems; the next batch is written meanwhile."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="small-files")
        self._start = f"{TEMPORARY_PREFIX}{Owner.current().mark}-{os.urandom(6).hex()}"
        self._count = 0
        # Temporary name and final one of each file, and device -> a folder on it, open since before the first file.
        self._written: list[tuple[str, str]] = []
        self._bytes = 0
        self._open: dict[int, int] = {}
        self._folders: set[str] = set()
        self._syncing: tuple[list[tuple[str, str]], dict[int, int], Future[None]] | None = None
        # Folders without a file whose readers the new one would have to keep.
        self._empty: set[str] = set()
        self._error: OSError | None = None

    def write(self, path: str, content: bytes) -> None:
        if self._error is not None:
            raise self._error
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            self._folders.add(folder)
            device = os.stat(folder).st_dev  # noqa: PTH116 -- strings, as above
            if device not in self._open:
                # Errors of writing are told to who had the file system open before they happened.
                self._open[device] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with os.scandir(folder) as entries:
                if next(entries, None) is None:
                    self._empty.add(folder)
        self._count += 1
        temporary = f"{folder}/{self._start}{self._count:x}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            # The temporary name would tell nobody what could not be written.
            error.filename = path
            raise
        self._written.append((temporary, path))
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            if folder not in self._empty and os.path.lexists(path):
                keep_readers(path, descriptor)
        except BaseException:
            self._written.pop()
            os.unlink(temporary)  # noqa: PTH108 -- strings, as above
            raise
        finally:
            os.close(descriptor)
        self._bytes += len(content)
        if len(self._written) >= _BATCH_FILES or self._bytes >= _BATCH_BYTES:
            self._send()

    def finish(self, *, raises: bool) -> None:
        self._send()
        self._name_synced()
        self._pool.shutdown(wait=True)
        if raises and self._error is not None:
            raise self._error

    def _send(self) -> None:
        self._name_synced()
        written, devices = self._written, self._open
        self._written, self._open, self._folders, self._bytes = [], {}, set(), 0
        self._syncing = written, devices, self._pool.submit(_sync, written, devices)

    def _name_synced(self) -> None:
        """Wait for the batch that is on its way to the disk, and give its files their names."""
        if self._syncing is None:
            return
        written, devices, future = self._syncing
        # An interrupt while this waits leaves the batch to `finish`, which names what was written.
        failure = future.exception()
        self._syncing = None
        for descriptor in devices.values():
            os.close(descriptor)
        if failure is not None:
            if not isinstance(failure, OSError):
                raise failure
            self._error = self._error or failure
            for temporary, _ in written:
                os.unlink(temporary)  # noqa: PTH108 -- strings, as above
            return
        for temporary, path in written:
            try:
                os.rename(temporary, path)  # noqa: PTH104 -- strings, as above
            except OSError as error:
                # The temporary name would tell nobody what could not be written.
                error.filename, error.filename2 = path, None
                self._error = self._error or error
                os.unlink(temporary)  # noqa: PTH108 -- strings, as above


def _sync(written: list[tuple[str, str]], devices: dict[int, int]) -> None:
    """Bring files to the disk.

    Raises:
        OSError: One of them could not be written.
    """
    for descriptor in devices.values():
        if len(written) >= _MANY_FILES and _sync_file_system(descriptor):
            continue
        # They are few, or it may have been the file of another program.
        for temporary, path in written:
            file = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            except OSError as error:
                error.filename = path
                raise
            finally:
                os.close(file)


class _Threads:
    """Files that are synced side by side, each by itself. At most `_AT_ONCE` contents are in memory."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="small-files")
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._error: BaseException | None = None

    def write(self, path: str, content: bytes) -> None:
        self._free.acquire()
        try:
            self._raise()
            self._pool.submit(self._write, path, content)
        except BaseException:
            self._free.release()
            raise

    def finish(self, *, raises: bool) -> None:
        self._pool.shutdown(wait=True)
        if raises:
            self._raise()

    def _write(self, path: str, content: bytes) -> None:
        try:
            with atomic_writer(Path(path), sync_dir=False) as stream:
                stream.write(content)
        except BaseException as error:  # raised again in the thread that asked for the file
            self._error = self._error or error
        finally:
            self._free.release()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _sync_file_system(descriptor: int) -> bool:
    """Write all that waits in the file system of an open folder to the disk; tell whether nothing failed."""
    return bool(_load_libc().syncfs(descriptor) == 0)


def _is_safe_to_sync_whole(folder: str) -> bool:
    """Tell whether syncfs(2) is as safe there as syncing each file."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if sys.platform != "linux" or release is None or (int(release[1]), int(release[2])) < _TELLING_LINUX:
        return False
    status = ctypes.create_string_buffer(_STATFS_BYTES)
    if _load_libc().statfs(os.fsencode(folder), status) != 0:
        return False
    # The first member, a word of the machine.
    return ctypes.c_long.from_buffer(status).value & 0xFFFFFFFF in _LOCAL_TYPES


@lru_cache(maxsize=1)
def _load_libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
