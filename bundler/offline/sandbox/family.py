"""A process and all that it started, seen from outside: how much there is of it, and its end.

Numbers of processes are those outside; a namespace of its own hides nothing from the process that made it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Each pass stops what the one before missed. A stopped process starts no other, so few passes are needed.
_MOST_PASSES = 200
_PAUSE_SECONDS = 0.01
# Of proc_pid_stat(5) the 20th and the 22nd field, of which two stand before those that are read here.
_THREADS, _START = 17, 19
_RESIDENT = re.compile(r"^Rss(?:Anon|Shmem):\s*([0-9]+)", re.MULTILINE)
# Address, rights, offset, device and inode of a mapping, and what it is of.
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)")
# Without a file, by a file without a name, and by a segment of System V. What is in /dev/shm counts as room.
_UNNAMED = "/memfd:"
_SHARED = ("/dev/zero (deleted)", _UNNAMED, "/SYSV")


@dataclass(frozen=True)
class Member:
    """A process of a family.

    Attributes:
        pid: Its number, which a later process may get.
        start_ticks: When it started, which tells it from such a one.
        memory_bytes: Memory that is no file's, and what it maps of files in memory; what is shared is counted in each.
    """

    pid: int
    start_ticks: int
    memory_bytes: int


def list_family(root: int) -> list[Member]:
    """Return a process and everything below it."""
    parents: dict[int, int] = {}
    started: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = _read_stat(path)
            if fields[0] != "Z":
                parents[int(path.name)] = int(fields[1])
                started[int(path.name)] = int(fields[_START])
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found, waiting = [], [root] if root in parents else []
    while waiting:
        pid = waiting.pop()
        found.append(Member(pid, started[pid], _memory_bytes(pid)))
        waiting += children.get(pid, [])
    return found


def measure_exactly(pid: int) -> int | None:
    """Return the memory of a process, each page divided by those that share it; None if that is not told.

    It is what is no file's, and memory that it shares with others; not files that were there before it, in a store in
    memory for instance.
    """
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        [anonymous] = re.findall(r"^Pss_Anon: *([0-9]+) kB$", rollup, re.MULTILINE)
        taken = int(anonymous)
        # Most programs share none, and the list of all mappings is long.
        if not re.search(r"^Pss_Shmem: *0 kB$", rollup, re.MULTILINE):
            taken += sum(_list_shared(Path(f"/proc/{pid}/smaps").read_text(errors="replace")))
    except (OSError, ValueError):
        return None
    return taken << 10


def _list_shared(mappings: str) -> Iterator[int]:
    """Yield how much each mapping of memory that is shared takes, in KiB (proc_pid_smaps(5))."""
    is_shared = False
    for line in mappings.splitlines():
        if match := _MAPPING.match(line):
            is_shared = match[1].startswith(_SHARED)
        elif is_shared and line.startswith("Pss:"):
            yield int(line.split()[1])


def measure_unnamed(pids: Iterable[int]) -> int:
    """Return the room of files in memory without a name (memfd_create(2)) that processes have open, each once.

    One that is mapped, and no longer open, is among the memory of the process.
    """
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as opened:
            for entry in opened:
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path).startswith(_UNNAMED):  # noqa: PTH115 -- a thousand of them
                        told = os.stat(entry.path)  # noqa: PTH116
                        found[told.st_dev, told.st_ino] = told.st_blocks * 512
    return sum(found.values())


def end_family(root: int) -> None:
    """Kill a process and everything below it, also where it forks without end; itself last: orphans are found there."""
    end_below(root)
    with contextlib.suppress(ProcessLookupError):
        os.kill(root, signal.SIGKILL)


def end_below(root: int) -> None:
    """Kill everything below a process, also where it forks without end.

    First the children: with the first process of a namespace the kernel kills all others in it. What is left is
    stopped, until nothing runs that could fork, and then killed.
    """
    family = {member.pid: member for member in list_family(root)}
    children = _children(root)
    # Those seen go with them: without a sandbox, orphans get another parent than `root`.
    for pid in dict.fromkeys((*children, *family)):
        if pid in family and pid != root:
            _signal(family[pid], signal.SIGKILL)
    stopped: set[tuple[int, int]] = set()
    for _ in range(_MOST_PASSES):
        below = {(one.pid, one.start_ticks): one for one in list_family(root) if one.pid != root}
        is_still = below.keys() <= stopped
        for known, member in below.items():
            if is_still or known not in stopped:
                _signal(member, signal.SIGKILL if is_still else signal.SIGSTOP)
        if not below:
            break
        stopped |= below.keys()
        time.sleep(_PAUSE_SECONDS)


def count_tasks(uid: int) -> int:
    """Return how many threads a user has."""
    found = 0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if path.stat().st_uid == uid:
                found += int(_read_stat(path)[_THREADS])
    return found


def _children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in path.read_text().split()]
    return found


def _signal(member: Member, number: signal.Signals) -> None:
    with contextlib.suppress(OSError, IndexError, ValueError):
        if int(_read_stat(Path(f"/proc/{member.pid}"))[_START]) == member.start_ticks:
            os.kill(member.pid, number)


def _read_stat(path: Path) -> list[str]:
    """Return what proc_pid_stat(5) says of a process, behind its name, which may hold anything, brackets too."""
    return (path / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _memory_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        # proc_pid_status(5). What is shared is memory too: a mapping of no file is, unless it is asked to be private.
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
        return sum(int(kilobytes) << 10 for kilobytes in _RESIDENT.findall(text))
    return 0
