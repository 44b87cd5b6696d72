"""Call functions on several threads: with results in order (`in_order`), or where each call ends its work (`call_all`).

`jobs` counts all threads that compute, the calling one included: it computes a result itself instead of waiting for
one. So one job needs no other thread, and two jobs on two cores leave no third thread to switch to.

What has to be done in order all the same, such as hashing one file, is done on a `Lane`: not by a thread of its own,
which all bytes would pass, but by whichever thread brings the part that is next.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

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


def call_all(
    calls: Iterable[Callable[[], None]],
    *,
    jobs: int,
    name: str = "parallel",
    on_failure: Callable[[], None] = lambda: None,
) -> None:
    """Make all calls, in any order; return when the last has ended.

    Args:
        calls: Taken from the iterable in order, by one thread at a time, which then makes the call. The iterable may
            wait until there is room for what the next call makes.
        jobs: How many threads compute, the calling one included.
        name: What the other threads are called.
        on_failure: Called when a call has failed: nothing should wait for what it would have done.

    Raises:
        Exception: What a call raised, or the iterable; of several, the first that was taken. Calls that had been taken
            were made, and no others.
    """
    crew = _Crew(iter(calls), on_failure)
    if jobs == 1:
        crew.work()
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(jobs - 1, thread_name_prefix=name) as pool:
            try:
                crew.work(pool, jobs - 1)
                pool.shutdown(wait=True)
            except BaseException as error:  # an interrupt while this thread waited
                crew.fail(-1, error)
    if crew.failures:
        # What ends the program, such as an interrupt, before what fails.
        raise min(crew.failures, key=lambda failure: (isinstance(failure[1], Exception), failure[0]))[1]


class _Crew:
    """Threads that take calls from one iterator.

    One more is started when a call was taken and no other waits for its turn: each keeps memory of its own, and where
    calls have to wait for room few of them are needed.
    """

    def __init__(self, calls: Iterator[Callable[[], None]], on_failure: Callable[[], None]) -> None:
        self.failures: list[tuple[int, BaseException]] = []
        self._calls = calls
        self._on_failure = on_failure
        self._turn = threading.Lock()
        self._mutex = threading.Lock()
        self._taken = 0
        self._started = 0
        self._idle = 0

    def work(self, pool: ThreadPoolExecutor | None = None, others: int = 0) -> None:
        """Take calls and make them, until there are none left or one has failed.

        Args:
            pool: Where further threads are started.
            others: How many there may be.
        """
        number = -1
        try:
            while True:
                with self._mutex:
                    self._idle += 1
                with self._turn:
                    with self._mutex:
                        self._idle -= 1
                    number = self._taken
                    if self.failures or (call := next(self._calls, None)) is None:
                        return
                    self._taken += 1
                    if pool is not None and self._started < others and not self._idle:
                        self._started += 1
                        pool.submit(self.work, pool, others)
                call()
                del call
        except BaseException as error:  # raised again in the thread that waits for all
            self.fail(number, error)

    def fail(self, number: int, error: BaseException) -> None:
        """Have no further calls made."""
        self.failures.append((number, error))
        self._on_failure()


class Lane:
    """Calls that are made one after the other, in the order of the places that they have on the lane.

    Each is made by the thread that puts it there; or, where one before it is missing or under way, by the thread that
    comes to it.

    Args:
        start: The place of the first.
    """

    def __init__(self, start: int = 0) -> None:
        self._next = start
        self._waiting: dict[int, tuple[int, Callable[[], None]]] = {}
        self._is_busy = False
        self._mutex = threading.Lock()

    def put(self, start: int, stop: int, call: Callable[[], None]) -> None:
        """Have a call made when all before `start` were made; those from `stop` are next then.

        Raises:
            Exception: What a call raised that was next; nothing on this lane is called afterwards.
        """
        with self._mutex:
            self._waiting[start] = stop, call
            if self._is_busy:
                return
            self._is_busy = True
        while True:
            with self._mutex:
                if self._next not in self._waiting:
                    self._is_busy = False
                    return
                stop, call = self._waiting.pop(self._next)
            call()
            self._next = stop


def count_down(count: int, done: Callable[[], None]) -> Callable[[], None]:
    """Return what is called `count` times, on any thread, and calls `done` at the last; at once if that is none."""
    mutex = threading.Lock()

    def end() -> None:
        nonlocal count
        with mutex:
            count -= 1
            is_last = count == 0
        if is_last:
            done()

    if count == 0:
        done()
    return end
