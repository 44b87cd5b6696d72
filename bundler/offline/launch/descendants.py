"""Processes that a command leaves behind, which nobody watches once the launch has ended.

A daemon's parent has gone, and so the kernel would make it a child of process 1. While `adopt_orphans` holds it becomes
a child of the launcher instead, however many forks ago, so that the launcher knows of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bundler.files.owner import read_stat_fields

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
# proc_pid_stat(5): the parent is the fourth field.
_PARENT = 4
# Helpers of Python's multiprocessing and the like see the end of their parent, and go a moment after it.
_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.02
_SHOWN_CHARACTERS = 200


class Descendants:
    """Those of the command, among all children of this process."""

    def __init__(self) -> None:
        # Whoever executed the launcher may have left it children of their own.
        self._others = set(_children())

    def left_behind(self) -> list[str]:
        """Wait a moment for the last ones to go, and return those that stay: number and command line of each."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        # Until none is listed: one that has ended may have left others since the list was made.
        while listed := [pid for pid in _children() if pid not in self._others]:
            alive = [pid for pid in listed if not _has_ended(pid)]
            if time.monotonic() > deadline:
                return [f"process {pid} ({_command_line(pid)})" for pid in alive or listed]
            if alive:
                time.sleep(_PAUSE_SECONDS)
        return []


@contextlib.contextmanager
def adopt_orphans() -> Iterator[Descendants]:
    """Make orphans among the processes that are started meanwhile children of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl"):
        # Not Linux: orphans go to the first process, and nobody can wait for them.
        yield Descendants()
        return
    before = ctypes.c_int()
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield Descendants()
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def _children() -> list[int]:
    with contextlib.suppress(OSError):
        # A kernel may be built without it.
        texts = [path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children")]
        if texts:
            return [int(word) for text in texts for word in text.split()]
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(read_stat_fields(int(path.name))[_PARENT - 3]) == os.getpid():
                found.append(int(path.name))
    return found


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended, and take the news of it."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    return True


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
        return " ".join(words)[:_SHOWN_CHARACTERS] or "unknown program"
    return "unknown program"
