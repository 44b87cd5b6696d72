"""Threads that wait for a server: first for the parts of files that one of them began, then for the next file.

So many small files come over as many connections as there are threads, and so does one large file. A thread that
waits for the parts of its own file takes parts meanwhile.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from threading import Event

# Seconds that Ctrl-C waits for downloads to stop. They may be waiting for a time-out; the bytes that they have written
# are safe even if they do not stop in time.
_STOP_SECONDS = 1.0
_POLL_SECONDS = 0.2
# A signal that comes just before a wait begins does not end it, and Python handles it only afterwards.
_SIGNAL_SECONDS = 1.0

Task = Callable[[], None]


class Crew:
    """Threads that share work; whoever waits for them ends soon at a signal, whatever they wait for.

    Args:
        jobs: How many threads, which is how many connections.
        stop: When it is set, no more work is begun.

    Attributes:
        jobs: How many threads.
    """

    def __init__(self, jobs: int, stop: Event) -> None:
        self.jobs = jobs
        self._stop = stop
        self._condition = threading.Condition()
        self._files: deque[Task] = deque()
        self._parts: deque[Task] = deque()
        # Files that were begun, and may offer parts.
        self._begun = 0

    def run(self, files: Iterable[Task]) -> None:
        """Do all tasks, in order, and all parts that they offer.

        Raises:
            BaseException: The first failure of a task; `stop` is set then.
        """
        self._files.extend(files)
        outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        # Daemon threads and not an executor, which waits for its threads at exit: after Ctrl-C the user would have to
        # wait for a read time-out.
        threads = [
            threading.Thread(target=self._work, args=(outcomes,), name=f"crew-{number}", daemon=True)
            for number in range(self.jobs)
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in threads:
                if failure := _wait_for(outcomes):
                    raise failure
        finally:
            self._stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(_STOP_SECONDS / len(threads))

    def offer(self, parts: Iterable[Task]) -> None:
        """Give away parts of a file; a part tells its file about its own failure."""
        with self._condition:
            self._parts.extend(parts)
            self._condition.notify_all()

    def take_part(self) -> Task | None:
        """Return a part that nobody has begun; None if there is none."""
        with self._condition:
            return self._parts.popleft() if self._parts else None

    def _work(self, outcomes: queue.SimpleQueue[BaseException | None]) -> None:
        try:
            while task := self._next():
                task()
        except BaseException as error:
            outcomes.put(error)
        else:
            outcomes.put(None)

    def _next(self) -> Task | None:
        with self._condition:
            while not self._stop.is_set():
                if self._parts:
                    return self._parts.popleft()
                if self._files:
                    file = self._files.popleft()
                    self._begun += 1
                    return lambda: self._do_file(file)
                if not self._begun:
                    return None
                self._condition.wait(_POLL_SECONDS)
            return None

    def _do_file(self, file: Task) -> None:
        try:
            file()
        finally:
            with self._condition:
                self._begun -= 1
                self._condition.notify_all()


def _wait_for(outcomes: queue.SimpleQueue[BaseException | None]) -> BaseException | None:
    while True:
        with contextlib.suppress(queue.Empty):
            return outcomes.get(timeout=_SIGNAL_SECONDS)
