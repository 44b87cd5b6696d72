"""Start the running program again from its command line, in the environment as it now stands.

Only where nobody can tell but by the time it took: a program that Python runs from a file, a module or `-c`, that has
been executed and not forked, has started no process and is nobody's dialogue. Never twice.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

from bundler.files.owner import read_stat_fields

_RESTARTED = "BUNDLE_RESTARTED"
# proc_pid_stat(5): the flags are the ninth field.
_FLAGS = 9
_PF_FORKNOEXEC = 0x40


def why_no_restart() -> str | None:
    """Return why this program cannot be started again, or None."""
    if os.environ.pop(_RESTARTED, None) == str(os.getpid()):
        return "it was already, and came to the same point"
    if sys.flags.interactive or hasattr(sys, "ps1") or "ipykernel" in sys.modules:
        return "this is an interactive session"
    if not sys.argv or sys.argv[0] in ("", "-"):
        return "it was read from standard input"
    if threading.current_thread() is not threading.main_thread():
        return "this is not its main thread"
    # A worker that was spawned has loaded this, and whoever has not is none.
    pool = sys.modules.get("multiprocessing.process")
    if (pool is not None and pool.parent_process() is not None) or _was_forked():
        return "this process is a worker of another"
    if _has_children():
        return "it has started other processes"
    return None


def restart(reason: str) -> NoReturn:
    """Execute the program anew; `why_no_restart` must have found nothing."""
    sys.stderr.write(f"bundle: starting this program again with the network shut, since {reason}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    # The number stays the same, so that the variable means nothing to children.
    environment = {**os.environ, _RESTARTED: str(os.getpid())}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


def _was_forked() -> bool:
    try:
        return bool(int(read_stat_fields(os.getpid())[_FLAGS - 3]) & _PF_FORKNOEXEC)
    except (OSError, ValueError, IndexError):
        return False


def _has_children() -> bool:
    try:
        return any(path.read_text(encoding="ascii").strip() for path in Path("/proc/self/task").glob("*/children"))
    except OSError:
        return False
