"""Start a command in isolation and see it through to its end.

Two ways in: `run_isolated` for a child of our own (the proof of `bundle fetch`), `launch` for a user's command, which
must notice as little of us as can be:

* signals that are sent to us are passed on; those that a terminal sends reach the command without us, since it
  stays in our process group, and are not sent twice (`si_code` tells the two apart);
* when job control stops the command we stop too, so that the shell gets its prompt back, and go on with it;
* the exit code is the command's, 128 + n if signal n killed it, 127 if it was not found, 126 if it cannot run;
* if we are killed outright, the kernel kills the command: it must not go on unreported.

The environment is the caller's affair (`environment`); only the guard's folder and the attempts folder are added.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bundler.errors import BundleError, OfflineError
from bundler.offline.attempts import Attempt, read_attempts
from bundler.offline.environment import ALLOW_NET, ATTEMPTS_DIR, SITE_FOLDER
from bundler.offline.isolation import Isolation, Requested, choose
from bundler.offline.kernel_counts import KernelCounts
from bundler.offline.network_namespace import own_addresses

_PR_SET_PDEATHSIG = 1
_SI_KERNEL = 0x80

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


class CommandNotFoundError(BundleError):
    """The command to run does not exist."""

    exit_code = 127


class CommandNotExecutableError(BundleError):
    """The command to run exists and cannot be executed."""

    exit_code = 126


@dataclass(frozen=True, kw_only=True)
class Completed:
    """How an isolated command ended.

    Attributes:
        exit_code: Its exit code; 128 + n if signal n ended it.
        isolation: What was in force.
        refused: Connections that the guard refused in Python processes, each with its code line.
        kernel_refused: Connections without a route, counted by the kernel in any process; None if it did not count.
    """

    exit_code: int
    isolation: Isolation
    refused: tuple[Attempt, ...]
    kernel_refused: int | None

    @property
    def attempts(self) -> int:
        """All attempts at the network that are known: the two counts never hold one attempt twice."""
        return len(self.refused) + (self.kernel_refused or 0)


def run_isolated(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    isolate: Requested = "auto",
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Completed:
    """Run a child command to its end, off the network.

    Args:
        argv: Command and arguments.
        env: Its whole environment, for instance of `offline_environment(hf_home).apply(os.environ)`; the guard is
            added here.
        isolate: auto, netns or none.
        cwd: Its working directory.
        stdin: As for `subprocess.Popen`, files and descriptors only.
        stdout: As for `subprocess.Popen`, files and descriptors only.
        stderr: As for `subprocess.Popen`, files and descriptors only.

    Raises:
        OfflineError: The isolation that was asked for cannot be had.
        CommandNotFoundError: There is no such command.
        CommandNotExecutableError: It cannot be executed.
    """
    isolation = choose(isolate)

    def start(prepare: Callable[[], None], env: dict[str, str]) -> subprocess.Popen[bytes]:
        return _popen(argv, env, prepare, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr)

    return _run(start, env, isolation, lambda child: _exit_code(child.wait()))


def launch(argv: Sequence[str], *, env: Mapping[str, str], isolation: Isolation) -> Completed:
    """Run a user's command in place of this process, as far as anybody can tell; to be called in the main thread.

    Args:
        argv: Command and arguments.
        env: Its whole environment; the guard is added here.
        isolation: What `choose` returned.

    Raises:
        OfflineError: The isolation failed, though it worked when tried.
        CommandNotFoundError: There is no such command.
        CommandNotExecutableError: It cannot be executed.
    """
    with _signals_blocked() as mask:

        def start(prepare: Callable[[], None], env: dict[str, str]) -> subprocess.Popen[bytes]:
            def prepare_and_unblock() -> None:
                prepare()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)

            return _popen(argv, env, prepare_and_unblock)

        return _run(start, env, isolation, _see_through)


def _run(
    start: Callable[[Callable[[], None], dict[str, str]], subprocess.Popen[bytes]],
    env: Mapping[str, str],
    isolation: Isolation,
    wait: Callable[[subprocess.Popen[bytes]], int],
) -> Completed:
    with _attempts_folder() as folder, contextlib.ExitStack() as stack:
        counts = stack.enter_context(KernelCounts()) if isolation.kind == "netns" else None

        def prepare() -> None:
            isolation.enter()
            if counts:
                counts.send_from_child()
            # After the namespace, which resets it.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

        child = start(prepare, _guarded(env, folder))
        if counts:
            counts.receive()
        exit_code = wait(child)
        return Completed(
            exit_code=exit_code,
            isolation=isolation,
            refused=tuple(read_attempts(folder)),
            kernel_refused=counts.refused() if counts else None,
        )


@contextlib.contextmanager
def _attempts_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bundle-attempts-"))
    try:
        yield folder
    finally:
        # A process that outlived the command may still be writing.
        shutil.rmtree(folder, ignore_errors=True)


def _guarded(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    others = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(SITE_FOLDER)]
    allowed = [text for text in env.get(ALLOW_NET, "").split(",") if text]
    # A packet from this machine to itself never leaves it, whatever address it uses.
    allowed += [text for address in own_addresses() if (text := str(address)) not in allowed]
    return {
        **env,
        "PYTHONPATH": os.pathsep.join([str(SITE_FOLDER), *others]),
        ATTEMPTS_DIR: str(folder),
        ALLOW_NET: ",".join(allowed),
    }


def _popen(
    argv: Sequence[str],
    env: dict[str, str],
    prepare: Callable[[], None],
    *,
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            env=env,
            # Not safe beside threads (Python may hold a lock): callers have none at work.
            preexec_fn=prepare,
            # A launcher may have left descriptors for the command (PMI_FD, a make jobserver); ours close on exec.
            close_fds=False,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
    except subprocess.SubprocessError as error:
        raise OfflineError(
            f"{argv[0]}: the isolation that worked a moment ago failed for the command ({error})",
            hint="try again; `bundle run --isolate none` leaves it to the guard inside Python",
        ) from error
    except FileNotFoundError as error:
        raise CommandNotFoundError(f"{argv[0]}: command not found") from error
    except OSError as error:
        raise CommandNotExecutableError(f"{argv[0]}: cannot be executed: {error.strerror}") from error


def _exit_code(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode


@contextlib.contextmanager
def _signals_blocked() -> Iterator[set[int]]:
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


def _see_through(child: subprocess.Popen[bytes]) -> int:
    """Pass signals on until the command has ended, and return its exit code."""
    while True:
        received = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD})
        if received.si_signo == signal.SIGCHLD:
            status = _child_status(child.pid)
            if status is not None:
                child.returncode = os.waitstatus_to_exitcode(status)
                return _exit_code(child.returncode)
        elif received.si_code != _SI_KERNEL:
            child.send_signal(received.si_signo)


def _child_status(pid: int) -> int | None:
    """Take all news of children; return the command's wait status once it has ended."""
    while True:
        # Any child: as process 1 of a container we inherit orphans.
        found, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        if found == 0:
            return None
        if found != pid:
            continue
        if not os.WIFSTOPPED(status):
            return status
        if os.WSTOPSIG(status) in _JOB_STOPS:
            os.kill(os.getpid(), signal.SIGSTOP)
