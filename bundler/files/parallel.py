"""Results in order, computed ahead on several threads.

`jobs` is how many threads compute, this one included: instead of waiting for a result it computes one itself. So one
job keeps to one core, without a thread, and two leave a machine of two cores no third thread to switch to.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

Result = TypeVar("Result")


def available_cores() -> int:
    """Return the cores that this process may run on: what `taskset`, a cgroup's cpuset or Slurm left it."""
    return len(os.sched_getaffinity(0))


def in_order(calls: Iterable[Callable[[], Result]], *, jobs: int, name: str = "parallel") -> Generator[Result]:
    """Yield what each of `calls` returns, in their order; at most `2 * jobs` results are computed ahead.

    Close it where it may be left before its end: its threads go then, and what they have not begun is not begun.

    Args:
        calls: Asked for one by one, by the calling thread; each is then called on any thread.
        jobs: How many threads compute, the calling one included.
        name: What the other threads are called.

    Raises:
        Exception: What a call raised, in its turn; what comes after it may have been called, too.
    """
    if jobs == 1:
        for call in calls:
            yield call()
        return
    tasks = (_Task(call) for call in calls)
    pending: deque[_Task[Result]] = deque()
    with ThreadPoolExecutor(jobs - 1, thread_name_prefix=name) as pool:
        try:
            while True:
                for task in islice(tasks, 2 * jobs - len(pending)):
                    pending.append(task)
                    pool.submit(task.work)
                if not pending:
                    return
                while not pending[0].future.done() and any(task.work() for task in pending):
                    pass
                yield pending.popleft().future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Task(Generic[Result]):
    """A call that whoever comes first makes."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self.future: Future[Result] = Future()
        self._call = call
        self._claim = threading.Lock()

    def work(self) -> bool:
        """Make the call if nobody has begun to; return whether."""
        if not self._claim.acquire(blocking=False):
            return False
        try:
            self.future.set_result(self._call())
        except BaseException as error:
            # Whoever waits for it must not wait for ever.
            self.future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        return True
