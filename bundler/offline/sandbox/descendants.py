"""See a program through to its end from the process above it, and leave none of what it started."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import NoReturn

from bundler.offline.sandbox.system_calls import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, control


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; to be called after all changes of identity."""
    control(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    control(PR_SET_CHILD_SUBREAPER, 1)


def become_keeper(child: int) -> NoReturn:
    """Wait for `child`, end whatever it left behind, and end with its exit code, 128 + n for signal n.

    Called in a forked process that has nothing else to do; a pipe to the launcher, which waits for its end, is closed.
    """
    code = 255
    try:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        code = _wait_for(child)
        for pid in iter(_any_child, None):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    finally:
        # No clean-up of a forked copy may run.
        os._exit(128 - code if code < 0 else code)


def _wait_for(child: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _any_child() -> int | None:
    """Return a child of this process, orphans below it included."""
    own = os.getpid()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # pid (name) state ppid: the name may hold anything, brackets too.
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == own:
                return int(path.parent.name)
    return None
