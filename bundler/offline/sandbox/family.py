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
# Of proc_pid_stat(5) the 20th and the 22nd field, of which two stand before those that are read here.
_THREADS, _START = 17, 19


@dataclass(frozen=True)
class Member:
    """A process of a family.

    Attributes:
        pid: Its number, which a later process may get.
        start_ticks: When it started, which tells it from such a one.
        anonymous_bytes: Memory that is no file's; what it shares with those that it was forked from is counted in each.
    """

    pid: int
    start_ticks: int
    anonymous_bytes: int


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
        found.append(Member(pid, started[pid], _anonymous_bytes(pid)))
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


def _anonymous_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # proc_pid_statm(5), in pages: size, resident, and of that what is of files or shared.
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return max(0, int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return 0
