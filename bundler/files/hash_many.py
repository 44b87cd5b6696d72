"""BLAKE3 of many files, at memory speed.

Large files are hashed one after the other, each by all cores, through mappings, since copying from the page cache
takes as long as hashing does. A mapped file that is cut short meanwhile, or lies on a mount that fails, kills who
looks at it with SIGBUS. So it is a forked child that maps; what it leaves undone is read here instead, which raises
where the child died. All other files are read, side by side on threads.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from bundler.files.digest import Digests, blake3_file, blake3_mapped_file

# From here on a file is worth all cores.
LARGE_BYTES = 16 << 20

# From the child: number of a file, bytes hashed since the last record, whether that was its end, its digest if so.
_RECORD = struct.Struct("<IQ?32s")


def blake3_files(
    paths: Sequence[Path], *, jobs: int, progress: Callable[[int], None] = lambda count: None
) -> Iterator[tuple[int, Digests | OSError]]:
    """Hash files; yield the number of each, and its digest or why it cannot be read, in the order they are done.

    Args:
        paths: The files.
        jobs: Cores to use.
        progress: Called with the number of bytes hashed since the last call.
    """
    sizes = [_size(path) for path in paths]
    # Largest first, so that no core is left alone with a large file at the end.
    left = sorted(range(len(paths)), key=lambda number: -sizes[number])
    large = [number for number in left if sizes[number] >= LARGE_BYTES]
    told = dict.fromkeys(large, 0)
    for position, count, digest in _by_child([paths[number] for number in large], jobs) if large else ():
        number = large[position]
        told[number] += count
        progress(count)
        if digest:
            left.remove(number)
            yield number, Digests(size_bytes=told[number], blake3=digest)

    def read(number: int) -> Digests | OSError:
        known = told.get(number, 0)

        def tell(count: int) -> None:
            nonlocal known
            repeated = min(count, known)
            known -= repeated
            progress(count - repeated)

        try:
            return blake3_file(paths[number], progress=tell)
        except OSError as error:
            return error

    with ThreadPoolExecutor(jobs, thread_name_prefix="hash") as pool:
        futures = {pool.submit(read, number): number for number in left}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it will tell


def _by_child(paths: Sequence[Path], threads: int) -> Iterator[tuple[int, int, str | None]]:
    """Hash files in a forked child; yield (position in `paths`, bytes since the last time, digest at its end).

    What it cannot hash, or does not live to, is left out.
    """
    # Beside other threads a child may find locks taken that nobody gives back.
    if sys.platform != "linux" or threading.active_count() > 1:
        return
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with warnings.catch_warnings():
            # CPython 3.12 counts threads that compiled libraries keep, too. The child calls none of those.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError:  # no process to be had
        os.close(reader)
        os.close(writer)
        return
    if child == 0:
        try:
            # Or there would always be a reader, and no broken pipe when our parent is killed.
            os.close(reader)
            _be_child(paths, threads, writer)
        finally:
            # No clean-up of a forked copy may run: buffers would be written twice.
            os._exit(0)
    os.close(writer)
    has_ended = False
    try:
        with os.fdopen(reader, "rb") as stream:
            while len(record := stream.read(_RECORD.size)) == _RECORD.size:
                position, count, is_end, digest = _RECORD.unpack(record)
                yield position, count, digest.hex() if is_end else None
        has_ended = True
    finally:
        # Where SIGCHLD is ignored, as a parent of ours may have wanted it, there is nothing to wait for.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if not has_ended:  # nobody asks for the rest
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _be_child(paths: Sequence[Path], threads: int, writer: int) -> None:
    # The death that is expected leaves neither a core file nor a traceback behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    for position, path in enumerate(paths):

        def tell(count: int, position: int = position) -> None:
            os.write(writer, _RECORD.pack(position, count, False, b""))

        try:
            digests = blake3_mapped_file(path, threads=threads, progress=tell)
            # A file that grew is read again, to its end.
            if path.stat().st_size == digests.size_bytes:
                os.write(writer, _RECORD.pack(position, 0, True, bytes.fromhex(digests.blake3 or "")))
        except BrokenPipeError:
            return  # nobody waits for it any more
        except OSError:
            pass  # reading it will tell
