"""Call functions on several threads ahead of time, and give back their results in order.

`jobs` counts all threads that compute, the calling one included: it computes a result itself instead of waiting for
one. So one job needs no other thread, and two jobs on two cores leave no third thread to switch to.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Result = TypeVar("Result")


def available_cores() -> int:
    """Return how many cores this process may use, after limits by `taskset`, a cgroup's cpuset or Slurm.

    Where no such limits are known (macOS), those that there are.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    calls: Iterable[Callable[[], Result]],
    *,
    jobs: int,
    name: str = "parallel",
    has_room: Callable[[], bool] = lambda: True,
) -> Generator[Result]:
    """Yield the result of each of `calls`, in order; at most `2 * jobs` results are computed ahead.

    Close the generator if it may not be read to its end: its threads then finish their current call and stop.

    Args:
        calls: Taken from the iterable one by one on the calling thread; each may be called on any thread.
        jobs: How many threads compute, the calling one included.
        name: What the other threads are called.
        has_room: Asked before each call is taken; without room, what was taken is finished and yielded first.

    Raises:
        Exception: What a call raised, when its turn comes; later calls may have run already.
    """
    if jobs == 1:
        for call in calls:
            yield call()
        return
    # Here, since many a command only wants to know how many cores there are.
    from concurrent.futures import Future, ThreadPoolExecutor

    tasks = (_Task(call, Future()) for call in calls)
    pending: deque[_Task[Result]] = deque()
    with ThreadPoolExecutor(jobs - 1, thread_name_prefix=name) as pool:
        try:
            while True:
                while len(pending) < 2 * jobs and (not pending or has_room()):
                    if (task := next(tasks, None)) is None:
                        break
                    pending.append(task)
                    pool.submit(task.work)
                if not pending:
                    return
                while not pending[0].future.done() and any(task.work() for task in pending):
                    pass
                yield pending.popleft().take()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Task(Generic[Result]):
    """A call that the first free thread makes."""

    def __init__(self, call: Callable[[], Result], future: Future[Result]) -> None:
        self.future = future
        self._call: Callable[[], Result] | None = call
        self._claim = threading.Lock()

    def work(self) -> bool:
        """Make the call unless another thread has begun it; return whether this thread made it."""
        if not self._claim.acquire(blocking=False):
            return False
        call, self._call = self._call, None
        assert call is not None, "claimed once"
        try:
            self.future.set_result(call())
        except BaseException as error:
            # Catch everything: the thread that waits for the result would otherwise wait for ever.
            self.future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        return True

    def take(self) -> Result:
        """Return the result once it is there, and keep nothing: a busy pool lets go of a task long after its end."""
        try:
            return self.future.result()
        finally:
            del self.future
