"""Do work that takes threads in a forked child, so that this process stays without.

A launcher waits for signals that it has blocked. The kernel gives a signal to any thread that has not blocked it, and
threads of a hashing pool, or of a compiled library that never ends its own, have not: what they get is lost to the
launcher, SIGCHLD among it, which it would wait for for ever. It must also fork, which is not safe beside threads.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NoReturn, TypeVar

from bundler.errors import BundleError
from bundler.offline.held_fork import fork_held, release
from bundler.offline.launch.parent_death import die_with_parent

Result = TypeVar("Result")

# How a `BundleError` comes from the child: its class, its arguments, and its attributes.
_Fault = tuple[type[BundleError], tuple[Any, ...], dict[str, Any]]


class ForkedWorkError(RuntimeError):
    """A forked child ended without a result.

    Attributes:
        exit_code: What it ended with; below 0 the signal that killed it.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"a child process of ours ended with {exit_code}")
        self.exit_code = exit_code


class ForkedWork(Generic[Result]):
    """Work that a forked child does.

    Args:
        child: Its process id.
        reader: The end of a pipe on which its result comes; then it is closed.
    """

    def __init__(self, child: int, reader: int) -> None:
        self._child = child
        self._reader = reader
        self._has_ended = False

    def is_done(self) -> bool:
        """Tell whether `wait` would return, or raise, at once."""
        return bool(select.select([self._reader], [], [], 0)[0])

    def wait(self) -> Result:
        """Wait until it is done, and return what it returned; only once.

        Raises:
            BundleError: It raised this.
            ForkedWorkError: It raised something else, which it has written to stderr, or was killed.
        """
        with os.fdopen(self._reader, "rb", closefd=False) as stream:
            outcome = stream.read()
        status = self._reap()
        if not outcome or status != 0:
            raise ForkedWorkError(os.waitstatus_to_exitcode(status))
        # Only our own child writes to this pipe.
        fault, result = pickle.loads(outcome)  # noqa: S301
        if fault is not None:
            raise _rebuild(fault)
        returned: Result = result
        return returned

    def end(self, patience_seconds: float) -> None:
        """End it if it is not waited for: ask it to, give it so long to clean up, and kill it."""
        os.close(self._reader)
        if self._has_ended:
            return
        if patience_seconds:
            os.kill(self._child, signal.SIGTERM)
            deadline = time.monotonic() + patience_seconds
            while time.monotonic() < deadline:
                if os.waitpid(self._child, os.WNOHANG)[0]:
                    return
                time.sleep(0.01)
        os.kill(self._child, signal.SIGKILL)
        self._reap()

    def _reap(self) -> int:
        _, status = os.waitpid(self._child, 0)
        self._has_ended = True
        return status


@contextlib.contextmanager
def fork_work(work: Callable[[], Result], *, patience_seconds: float = 0) -> Iterator[ForkedWork[Result]]:
    """Begin `work` in a forked child, which may write to our standard streams.

    Args:
        work: What it does.
        patience_seconds: How long it may clean up when the block ends before it: `KeyboardInterrupt` is raised in it
            once then. Ctrl-C is left to us. By default it is killed.

    Yields:
        The work.
    """
    # What is not written yet, both would write.
    sys.stdout.flush()
    reader, writer = os.pipe()
    child, held = fork_held()
    if child == 0:
        os.close(reader)
        _run_child(work, writer, held, cleans_up=patience_seconds > 0)
    os.close(writer)
    forked: ForkedWork[Result] = ForkedWork(child, reader)
    try:
        release(held)
        yield forked
    finally:
        forked.end(patience_seconds)


def _run_child(work: Callable[[], object], writer: int, held: Iterable[int], *, cleans_up: bool) -> NoReturn:
    code = 1
    try:
        if cleans_up and threading.current_thread() is threading.main_thread():
            _wait_to_be_asked()
        release(held)
        die_with_parent()
        with os.fdopen(writer, "wb") as stream:
            pickle.dump(_outcome(work), stream)
        code = 0
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # our parent has got it too, or does not wait any more
    except BaseException as fault:
        sys.excepthook(type(fault), fault, fault.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait_to_be_asked() -> None:
    """End at the parent's signal alone, and at the first: a second one would end the cleaning up."""
    asked = False

    def end(number: int, frame: object) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    # Not ignored: commands that are started here would inherit that.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


def _outcome(work: Callable[[], Result]) -> tuple[_Fault | None, Result | None]:
    try:
        return None, work()
    except BundleError as error:
        return (type(error), error.args, vars(error)), None


def _rebuild(fault: _Fault) -> BundleError:
    """Return an error as it was raised, whatever its class is made from."""
    kind, arguments, attributes = fault
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    vars(error).update(attributes)
    return error
