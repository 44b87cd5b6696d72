"""One measured run of one command: wall clock, CPU time of its whole process tree, peak memory.

Rule book:

* what the run writes is removed, and what it reads is read once, before the clock starts: runs are on a warm cache;
* dirty pages that an earlier run left are on the disk before the clock starts, and its files are out of the page
  cache: otherwise those who come later in a round pay for finding free pages, which costs more than the copying;
* the clock stops when the command ends. How long its output then takes to reach the disk is measured by itself, as
  some commands wait for the disk (`bundle` does) and others (`tar`, `cp`) leave that to the kernel.

The peak is that of the largest process, as wait4(2) tells it. Linux counts the pages of the process that starts a
command as its own, so nothing measured here can have less than this harness itself; hence it imports so little.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK_BYTES = 1 << 20


class StepError(Exception):
    """A command failed; the text ends with the last lines that it wrote."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command to measure.

    Attributes:
        argv: The command; absolute paths.
        shown: The same for people, without this machine's paths.
        reads: Files or folders that it reads.
        writes: Files or folders that it makes.
        kept: What is measured as the size of the result; default: `writes`.
        env: Variables on top of the harness's own.
        cwd: Where to run.
        stdout: A file for what it prints, where that is wanted; else it goes to the log.
    """

    argv: Sequence[str | Path]
    shown: str
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stdout: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run took.

    Attributes:
        wall_seconds: From start to end of the command.
        cpu_seconds: User and system time of it and all its children.
        peak_bytes: Resident memory of its largest process.
        flush_seconds: How long fsync of all it wrote took afterwards.
        size_bytes: Size of the result.
        read_bytes: What it read from the disk.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    flush_seconds: float
    size_bytes: int
    read_bytes: int = 0


def command(*words: str | Path) -> tuple[str | Path, ...]:
    """Return the words of a command."""
    return words


def measure(step: Step, log: Path) -> Run:
    """Run `step` once; its output is appended to `log`.

    Raises:
        StepError: The command failed.
    """
    for path in step.writes:
        remove(path)
    os.sync()
    for path in step.reads:
        warm(path)
    with contextlib.ExitStack() as files:
        stream = files.enter_context(log.open("ab"))
        output = files.enter_context(step.stdout.open("wb")) if step.stdout else stream
        stream.write(f"\n$ {step.shown}\n".encode())
        stream.flush()
        begin = stream.tell()
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in step.argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=stream,
            env={**os.environ, **step.env},
            cwd=step.cwd,
            start_new_session=True,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            # Interrupted: nothing may go on writing, or running, behind our back.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_bytes()[begin:][-2000:].decode(errors="replace").strip()
        raise StepError(f"{step.shown}\nended with exit code {process.returncode}:\n{tail}")
    result = Run(
        wall_seconds=wall,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
        flush_seconds=_flush(step.writes),
        size_bytes=sum(size_of(path) for path in step.kept or step.writes),
        # In blocks of 512 bytes, whatever the disk's are (getrusage(2)).
        read_bytes=usage.ru_inblock * 512,
    )
    for path in (*step.reads, *step.writes):
        evict(path)
    return result


def files_in(path: Path) -> Iterator[Path]:
    """Yield the regular files at or below `path`; links are not followed."""
    if path.is_file() and not path.is_symlink():
        yield path
    for parent, _, names in os.walk(path):
        yield from (file for name in sorted(names) if not (file := Path(parent, name)).is_symlink())


def size_of(path: Path) -> int:
    """Return the bytes of all files at or below `path`."""
    return sum(file.stat().st_size for file in files_in(path))


def warm(path: Path) -> None:
    """Read everything once, so that it is in the page cache as far as it fits."""
    buffer = bytearray(_BLOCK_BYTES)
    for file in files_in(path):
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def evict(path: Path) -> None:
    """Take everything out of the page cache that is on the disk already."""
    for file in files_in(path):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(paths: Sequence[Path]) -> float:
    started = time.perf_counter()
    for path in paths:
        for file in files_in(path):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    return time.perf_counter() - started
