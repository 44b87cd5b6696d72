"""BLAKE3 of many files, at memory speed.

Large files are hashed one after the other, each on all cores, by mmap, because copying from the page cache takes as
long as hashing. If a mapped file is truncated meanwhile, or its mount fails, the process that reads it dies of SIGBUS.
So a forked child does the mapping. Files that the child did not finish are read here with read(2), which raises an
error where the child died. Smaller files are read in parallel on threads. The smallest are read here, one after the
other, as long as the disk need not be waited for: Python takes most of the time then, and threads that wait for one
another take three times as much of the processors, and longer. From the first batch that waited on they go to the
threads.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bundler.files.digest import Digests, blake3_file, blake3_mapped_file, blake3_small_file

# A file of this size or more is hashed on all cores.
LARGE_BYTES = 16 << 20
# Files of up to this size are read whole, so many of them by one thread.
_SMALL_BYTES = 256 << 10
_BATCH_FILES = 256

# What the child sends: number of a file, bytes hashed since the last record, whether it is done, its digest if so.
_RECORD = struct.Struct("<IQ?32s")


def blake3_files(
    paths: Sequence[str | Path],
    *,
    jobs: int,
    sizes: Sequence[int] | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[int, Digests | OSError]]:
    """Hash files; yield the index of each in `paths`, and its digest or error, in the order in which they are done.

    Args:
        paths: The files.
        jobs: Cores to use.
        sizes: Their lengths, where these are known; they decide how each is read, not what its digest is.
        progress: Called with the number of bytes hashed since the last call.
    """
    sizes = [_size(path) for path in paths] if sizes is None else sizes
    # Largest first: otherwise one core may still hash a large file at the end, while the others have nothing to do.
    order = sorted(range(len(paths)), key=lambda number: -sizes[number])
    left = [number for number in order if sizes[number] > _SMALL_BYTES]
    small = order[len(left) :]
    large = [number for number in left if sizes[number] >= LARGE_BYTES]
    told = dict.fromkeys(large, 0)
    for position, count, digest in _hash_in_child([Path(paths[number]) for number in large], jobs):
        number = large[position]
        told[number] += count
        progress(count)
        if digest:
            left.remove(number)
            yield number, Digests(size_bytes=told[number], blake3=digest)

    yield from _read_files(left, small, paths, sizes, told, jobs=jobs, progress=progress)


def _read_files(
    left: Sequence[int],
    small: Sequence[int],
    paths: Sequence[str | Path],
    sizes: Sequence[int],
    told: Mapping[int, int],
    *,
    jobs: int,
    progress: Callable[[int], None],
) -> Iterator[tuple[int, Digests | OSError]]:
    """Hash files by reading them.

    Args:
        left: The larger ones, by their numbers.
        small: The others.
        paths: Of all files.
        sizes: Of all files.
        told: Of how many bytes of a file `progress` was told already.
        jobs: Cores to use.
        progress: Called with the number of bytes hashed since the last call.
    """

    def read(number: int) -> list[tuple[int, Digests | OSError]]:
        known = told.get(number, 0)

        def tell(count: int) -> None:
            nonlocal known
            repeated = min(count, known)
            known -= repeated
            progress(count - repeated)

        try:
            return [(number, blake3_file(Path(paths[number]), progress=tell))]
        except OSError as error:
            return [(number, error)]

    def read_batch(numbers: Sequence[int]) -> list[tuple[int, Digests | OSError]]:
        return _read_batch(numbers, paths, sizes, progress)

    # A launch that hashes nothing does without it, and that is most of them.
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(jobs, thread_name_prefix="hash") as pool:
        futures = [pool.submit(read, number) for number in left]
        batches = iter([small[start : start + _BATCH_FILES] for start in range(0, len(small), _BATCH_FILES)])
        try:
            for batch in batches:
                before = _count_waits()
                found = read_batch(batch)
                has_waited = _count_waits() - before > len(batch) // 4
                yield from found
                if has_waited:
                    break
            futures += [pool.submit(read_batch, batch) for batch in batches]
            for future in as_completed(futures):
                yield from future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read_batch(
    numbers: Sequence[int], paths: Sequence[str | Path], sizes: Sequence[int], progress: Callable[[int], None]
) -> list[tuple[int, Digests | OSError]]:
    found = [(number, _read_small(paths[number], sizes[number])) for number in numbers]
    progress(sum(digests.size_bytes for _, digests in found if isinstance(digests, Digests)))
    return found


def _read_small(path: str | Path, size_bytes: int) -> Digests | OSError:
    try:
        return blake3_small_file(path, size_bytes)
    except OSError as error:
        return error


def _count_waits() -> int:
    # Times that this thread gave the processor away; of the whole process where threads are not told apart.
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_nvcsw


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 -- strings: a Path for each of 100,000 files takes seconds
    except OSError:
        return 0  # hashing it will raise the same error


def _hash_in_child(paths: Sequence[Path], threads: int) -> Iterator[tuple[int, int, str | None]]:
    """Hash files in a forked child; yield (position in `paths`, bytes since the last time, digest at its end).

    Files that the child cannot hash, or does not reach before it dies, are left out.
    """
    # fork(2) copies only the calling thread: a lock that another thread holds would stay locked in the child for ever.
    if not paths or sys.platform != "linux" or threading.active_count() > 1:
        return
    reader, writer = os.pipe()
    try:
        with warnings.catch_warnings():
            # CPython 3.12 also counts threads of compiled libraries; the child calls none of those libraries.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError:  # the system has no room for another process
        os.close(reader)
        os.close(writer)
        return
    if child == 0:
        try:
            # With this end open, the pipe would never break, and the child would outlive a killed parent.
            os.close(reader)
            _run_child(paths, threads, writer)
        finally:
            # Skip the interpreter's clean-up: it would write the parent's buffers a second time.
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
        # ChildProcessError: where SIGCHLD is ignored (our parent may have set that), there is no child to wait for.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if not has_ended:  # the caller stopped early
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _run_child(paths: Sequence[Path], threads: int, writer: int) -> None:
    # SIGBUS is expected here: let it leave neither a core file nor a traceback.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    for position, path in enumerate(paths):

        def tell(count: int, position: int = position) -> None:
            os.write(writer, _RECORD.pack(position, count, False, b""))

        try:
            digests = blake3_mapped_file(path, threads=threads, progress=tell)
            # A file that grew meanwhile gets no digest here; the parent reads it again, to its end.
            if path.stat().st_size == digests.size_bytes:
                os.write(writer, _RECORD.pack(position, 0, True, bytes.fromhex(digests.blake3 or "")))
        except BrokenPipeError:
            return  # the parent is gone
        except OSError:
            pass  # the parent reads the file too, and raises the same error
