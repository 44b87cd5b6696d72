"""How much a sandboxed program may take of the machine: time, memory, processes and room on the disk.

Rule book:

* the program is looked at from outside, several times a second. The kernel's own limits for a process say nothing of
  many processes, and the one on address space is unfit for torch, which reserves far more than it uses;
* a folder in memory for files that processes share counts as room: its file system tells how much it holds. So do
  files in memory that never had a name, as long as somebody has them open;
* memory and disk have a second bound: what is left of them on the machine. Files on the disk that are deleted and still
  open, and what is on its way from one process to another, show only there;
* what goes over a limit is stopped and killed with all that it started, and it is said which limit that was;
* the program itself tells which step of its work it is at, each later than the one before; whatever it claims, it has
  the time of all steps at most;
* where there is no /proc (macOS), time and disk are held, and memory and processes are not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.offline.sandbox.family import (
    Member,
    count_tasks,
    end_family,
    list_family,
    measure_exactly,
    measure_unnamed,
)
from bundler.offline.sandbox.namespaces import measure_shared
from bundler.text.wording import size

# For each step: importing torch from a cold disk takes minutes.
DEFAULT_MINUTES = 30
# Between two looks; longer where a look takes much, so that looking takes a tenth of a core.
_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.1, 2.0
_SHARE_OF_LOOKING = 10
# Of what is free when the program starts, what must stay so.
_MEMORY_LEFT, _DISK_LEFT = 8, 4
_MOST_DISK_LEFT_BYTES = 1 << 30
# Libraries start threads for each.
_TASKS_FOR_A_CORE = 8
# A file takes this at least, also an empty one.
_LEAST_FILE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a program may take.

    Attributes:
        step_seconds: Time for each step of its work; None for any.
        memory_bytes: Memory of all its processes together; None for three quarters of what is free.
        processes: How many processes at a time.
        written_bytes: Room on the disk; None for any.
    """

    step_seconds: float | None = 60 * DEFAULT_MINUTES
    memory_bytes: int | None = None
    processes: int = 256
    written_bytes: int | None = 1 << 30

    def enter(self) -> None:
        """Take the limits that the kernel keeps, for the calling process and all below it."""
        _lower(resource.RLIMIT_CORE, 0)
        if self.written_bytes is not None:
            _lower(resource.RLIMIT_FSIZE, self.written_bytes)
        # Those of the user are counted together, and those of root are not held by it. This process is one of them, so
        # none means that they cannot be counted, and a limit would be too low.
        if tasks := count_tasks(os.getuid()):
            _lower(resource.RLIMIT_NPROC, tasks + self.most_tasks)

    @property
    def most_tasks(self) -> int:
        """How many threads the kernel lets there be: enough for `processes` to be found exceeded, and then an end."""
        return 2 * self.processes + _TASKS_FOR_A_CORE * (os.cpu_count() or 1)


def _lower(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = value if hard == resource.RLIM_INFINITY else min(hard, value)
    resource.setrlimit(what, (most, most))


@dataclass(frozen=True)
class Breach:
    """A limit that a program went over.

    Attributes:
        step: What it was at, as far as it said.
        what: What it took, and how much it may.
        is_time: Whether that is time.
    """

    step: int
    what: str
    is_time: bool = False


class Watcher:
    """Waits for a program, and ends it when it goes over a limit.

    Args:
        limits: The limits.
        written: Folders and files that it writes to.
        read_step: Returns the step that it says it is at.

    Attributes:
        breach: The limit that it went over; None if it went over none.
        limits: The limits.
    """

    def __init__(self, limits: Limits, written: Sequence[Path], read_step: Callable[[], int]) -> None:
        self.breach: Breach | None = None
        self.limits = limits
        self._written, self._read_step = tuple(written), read_step
        self._step, self._since = 0, time.monotonic()
        free = _free_memory() or 0
        self._memory = limits.memory_bytes or free * 3 // 4
        self._memory_left = free // _MEMORY_LEFT
        self._disk_left = min(_MOST_DISK_LEFT_BYTES, _free_disk(self._written[0]) // _DISK_LEFT)

    def wait(self, child: int, noted: Path) -> int:
        """Return the wait status of a child, once it has ended or was ended.

        Args:
            child: Its number.
            noted: One more folder that it writes to.
        """
        try:
            while True:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    return status
                # Not the wall clock: a program that leaves the processor to nobody would be looked at seldom.
                begun = time.thread_time()
                self.breach = self._look(child, noted)
                if self.breach is not None:
                    end_family(child)
                    return os.waitpid(child, 0)[1]
                spent = time.thread_time() - begun
                time.sleep(min(max(_PAUSE_SECONDS, _SHARE_OF_LOOKING * spent), _MOST_PAUSE_SECONDS))
        except BaseException:
            end_family(child)
            raise

    def _look(self, child: int, noted: Path) -> Breach | None:
        limits, now = self.limits, time.monotonic()
        if (step := self._read_step()) > self._step:
            self._step, self._since = step, now
        if limits.step_seconds is not None and now - self._since > limits.step_seconds:
            return Breach(self._step, f"took more than {limits.step_seconds / 60:g} minutes", is_time=True)
        family = list_family(child)
        if len(family) > limits.processes:
            return Breach(self._step, f"started more than {limits.processes} processes")
        what = self._memory_problem(family)
        if what is None and limits.written_bytes is not None:
            unnamed = measure_unnamed(member.pid for member in family)
            taken = measure_shared(child) + unnamed
            what = self._disk_problem((*self._written, noted), taken, limits.written_bytes)
        return Breach(self._step, what) if what else None

    def _memory_problem(self, family: Sequence[Member]) -> str | None:
        taken = sum(member.memory_bytes for member in family)
        if taken > self._memory:
            exact = [measure_exactly(member.pid) for member in family]
            taken = sum(one if one is not None else m.memory_bytes for one, m in zip(exact, family, strict=True))
        if taken > self._memory:
            return f"took more than {size(self._memory)} of memory"
        left = _free_memory()
        if left is not None and left < self._memory_left:
            return f"left {size(left)} of memory on this machine, of {size(self._memory_left * _MEMORY_LEFT)}"
        return None

    def _disk_problem(self, places: Sequence[Path], taken: int, most_bytes: int) -> str | None:
        waiting: list[str | os.DirEntry[str]] = [str(place) for place in places]
        while waiting:
            place = waiting.pop()
            try:
                told = os.lstat(place)
                taken += max(told.st_blocks * 512, _LEAST_FILE_BYTES)
                if os.path.isdir(place) and not os.path.islink(place):  # noqa: PTH112, PTH114 -- entries of scandir
                    with os.scandir(place) as entries:
                        waiting.extend(entries)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.ENAMETOOLONG):
                    return f"made a folder that cannot be looked into ({error.strerror})"
            if taken > most_bytes:
                return f"wrote more than {size(most_bytes)}"
        if (left := _free_disk(places[0])) < self._disk_left:
            return f"left {size(left)} on the disk of the store"
        return None


def _free_memory() -> int | None:
    """Return how much memory is free, on this machine and in the group that limits this process; None if not told."""
    try:
        text = Path("/proc/meminfo").read_text()
    except FileNotFoundError:
        return None
    words = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    free = int(words["MemAvailable"].split()[0]) << 10
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        group = Path("/sys/fs/cgroup") / next(line[4:] for line in lines if line.startswith("0::/"))
        most = int((group / "memory.max").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Pages of files go when room is needed.
        held = int((group / "memory.current").read_text()) - int(stat.get("inactive_file", 0))
        free = min(free, max(0, most - held))
    return free


def _free_disk(place: Path) -> int:
    told = os.statvfs(place)
    return told.f_bavail * told.f_frsize
