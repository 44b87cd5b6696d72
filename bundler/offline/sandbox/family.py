"""A process and all that it started, seen from outside: how much there is of it, and its end.

Numbers of processes are those outside; a namespace of its own hides nothing from the process that made it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

# Each pass stops what the one before missed. A stopped process starts no other, so few passes are needed.
_MOST_PASSES = 200
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Member:
    """A process of a family.

    Attributes:
        pid: Its number.
        anonymous_bytes: Memory that is no file's; what it shares with those that it was forked from is counted in each.
    """

    pid: int
    anonymous_bytes: int


def list_family(root: int) -> list[Member]:
    """Return a process and everything below it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # pid (name) state ppid: the name may hold anything, brackets too.
            fields = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(path.name)] = int(fields[1])
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found, waiting = [], [root] if root in parents else []
    while waiting:
        pid = waiting.pop()
        found.append(Member(pid, _anonymous_bytes(pid)))
        waiting += children.get(pid, [])
    return found


def measure_exactly(pid: int) -> int | None:
    """Return the anonymous memory of a process, each page divided by those that share it; None if that is not told."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) << 10
    return None


def end_family(root: int) -> None:
    """Kill a process and everything below it, also where it forks without end.

    First the children: with the first process of a namespace the kernel kills all others in it. What is left is
    stopped, until nothing runs that could fork, and then killed; `root` goes last: orphans are found below it.
    """
    seen = [member.pid for member in list_family(root) if member.pid != root]
    # Those seen go with them: without a sandbox, orphans get another parent than `root`.
    for pid in (*_children(root), *seen):
        _signal(pid, signal.SIGKILL)
    stopped: set[int] = set()
    for _ in range(_MOST_PASSES):
        below = {member.pid for member in list_family(root)} - {root}
        for pid in below - stopped:
            _signal(pid, signal.SIGSTOP)
        if below <= stopped:
            for pid in below:
                _signal(pid, signal.SIGKILL)
            if not below:
                break
        stopped |= below
        time.sleep(_PAUSE_SECONDS)
    _signal(root, signal.SIGKILL)


def count_tasks(uid: int) -> int:
    """Return how many threads a user has."""
    found = 0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if path.stat().st_uid == uid:
                # proc_pid_stat(5): the number of threads is the 20th field, the 18th behind the name.
                found += int((path / "stat").read_text(errors="replace").rpartition(")")[2].split()[17])
    return found


def _children(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in path.read_text().split()]
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _anonymous_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # proc_pid_statm(5), in pages: size, resident, and of that what is of files or shared.
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return max(0, int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return 0
