"""See a program through to its end from the process above it, and leave none of what it started.

The process above, its keeper, ends all of it when it is asked to end, and when the launcher ends, however that does.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NoReturn

from bundler.offline.sandbox.family import end_below
from bundler.offline.sandbox.system_calls import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, control

# A terminal sends some of them to everything that runs in it.
_ASKING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; to be called after all changes of identity."""
    control(PR_SET_PDEATHSIG, signal.SIGKILL)


def fork_below_keeper() -> None:
    """Go on in a child, of which this process becomes the keeper; it adopts orphans, so it finds all of them."""
    control(PR_SET_CHILD_SUBREAPER, 1)
    if child := os.fork():
        become_keeper(child)
    die_with_parent()


def become_keeper(child: int) -> NoReturn:
    """Wait for `child`, end whatever it left behind, and end with its exit code, 128 + n for signal n.

    Called in a forked process that has nothing else to do; a pipe to the launcher, which waits for its end, is closed.
    """
    code = 255
    try:
        for number in _ASKING:
            signal.signal(number, _stop)
        # In place of SIGKILL: no other process would end what the program started.
        control(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        code = _wait_for(child)
    except _StoppedError:
        # The first process of a namespace takes all others with it. Before that /proc, which is that of the namespace
        # by now, must not be read: its numbers are others than ours.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    finally:
        try:
            for number in _ASKING:
                signal.signal(number, signal.SIG_IGN)
            end_below(os.getpid())
            _reap()
        finally:
            # No clean-up of a forked copy may run.
            os._exit(128 - code if code < 0 else code)


class _StoppedError(Exception):
    """The keeper was asked to end."""


def _stop(number: int, _: object) -> None:
    raise _StoppedError


def _wait_for(child: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def _reap() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
