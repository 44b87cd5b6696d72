"""Hand a command's signals to it, and wait for its end, as if it ran in place of this process.

* signals that are sent to us are passed on; those that a terminal sends reach the command without us, since it
  stays in our process group, and are not sent twice (`si_code` tells the two apart);
* the kernel gives a signal to any thread that does not hold it back. A program that calls this and has threads of its
  own may lose SIGCHLD to one of them: so the command is looked for every second besides;
* when job control stops the command we stop too, so that the shell gets its prompt back, and go on with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

_SI_KERNEL = 0x80
_LOOK_SECONDS = 1.0

_PASSED_ON = {
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGCONT,
}
# Stops by job control. A plain SIGSTOP is somebody's business with the command alone.
_JOB_STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


@contextlib.contextmanager
def block_signals() -> Iterator[set[int]]:
    """Hold back signals for `sigwaitinfo`; yield the mask that the command must get back."""
    # A launcher may have left SIGCHLD ignored, which would make the kernel forget the exit code.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    waited_for = _PASSED_ON | {signal.SIGCHLD}
    mask = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)}
    try:
        yield mask
    finally:
        # What came after the command's end was meant for the command.
        while signal.sigtimedwait(waited_for, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def pass_signals_on(child: int) -> int:
    """Pass signals on until the command has ended, and return its wait status."""
    while True:
        received = signal.sigtimedwait(_PASSED_ON | {signal.SIGCHLD}, _LOOK_SECONDS)
        if received is None or received.si_signo == signal.SIGCHLD:
            status = _child_status(child)
            if status is not None:
                return status
        elif received.si_code != _SI_KERNEL:
            # Not waited for yet, so the number is still the command's.
            os.kill(child, received.si_signo)


def _child_status(pid: int) -> int | None:
    """Take all news of children; return the command's wait status once it has ended."""
    while True:
        # Any child: we inherit orphans as process 1 of a container, and as the supervisor of a filter.
        found, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        if found == 0:
            return None
        if found != pid:
            continue
        if not os.WIFSTOPPED(status):
            return status
        if os.WSTOPSIG(status) in _JOB_STOPS:
            os.kill(os.getpid(), signal.SIGSTOP)
