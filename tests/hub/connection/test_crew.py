"""Threads that download, and the thread that waits for them."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from bundler.hub.connection import crew
from bundler.hub.connection.crew import Crew


def is_waiting_for_crew() -> bool:
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    return frame.f_code is crew._wait_for.__code__


def test_a_signal_that_does_not_end_the_wait_is_noticed_all_the_same() -> None:
    stop, over = threading.Event(), threading.Event()
    ended_in_time: list[bool] = []

    def task() -> None:
        while not is_waiting_for_crew():
            time.sleep(0.01)
        # Handled by another thread, it leaves the main thread where it waits: as one that comes just before the wait.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        ended_in_time.append(stop.wait(30))
        over.set()

    with pytest.raises(KeyboardInterrupt):
        Crew(1, stop).run([task])
    assert over.wait(60) and ended_in_time == [True]
