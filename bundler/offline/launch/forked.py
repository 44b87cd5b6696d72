"""Do work that takes threads in a forked child, so that this process stays without.

A launcher waits for signals that it has blocked. The kernel gives a signal to any thread that has not blocked it, and
threads of a hashing pool, or of a compiled library that never ends its own, have not: what they get is lost to the
launcher, SIGCHLD among it, which it would wait for for ever. It must also fork, which is not safe beside threads.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

from bundler.errors import BundleError
from bundler.offline.launch.parent_death import die_with_parent

Result = TypeVar("Result")


@contextlib.contextmanager
def fork_work(work: Callable[[], Result]) -> Iterator[Callable[[], Result]]:
    """Begin `work` in a forked child, which may write to our standard streams; if nobody waits for it, it is killed.

    Yields:
        What waits for it and returns what it returns. It raises a `BundleError` that `work` raised, anew; a
        `RuntimeError` if that raised something else, which it has written to stderr, or was killed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run_child(work, writer)
    os.close(writer)
    status: int | None = None

    def wait() -> Result:
        nonlocal status
        with os.fdopen(reader, "rb", closefd=False) as stream:
            outcome = stream.read()
        _, status = os.waitpid(child, 0)
        if not outcome or status != 0:
            raise RuntimeError(f"a child process for verification ended with {os.waitstatus_to_exitcode(status)}")
        # Only our own child writes to this pipe.
        error, result = pickle.loads(outcome)  # noqa: S301
        if error is not None:
            kind, message, hint = error
            raise kind(message, hint=hint)
        returned: Result = result
        return returned

    try:
        yield wait
    finally:
        os.close(reader)
        if status is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _run_child(work: Callable[[], object], writer: int) -> NoReturn:
    code = 1
    try:
        die_with_parent()
        with os.fdopen(writer, "wb") as stream:
            pickle.dump(_outcome(work), stream)
        code = 0
    except KeyboardInterrupt:
        pass  # our parent has got it too
    except BaseException as fault:
        sys.excepthook(type(fault), fault, fault.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _outcome(work: Callable[[], Result]) -> tuple[tuple[type[BundleError], str, str | None] | None, Result | None]:
    try:
        return None, work()
    except BundleError as error:
        return (type(error), error.message, error.hint), None
