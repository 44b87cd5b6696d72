"""bundler.files.parallel: results in order, on as many threads as asked for and no more, whatever the calls do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from bundler.files.parallel import in_order

JOBS = [1, 2, 3, 16]


@pytest.mark.parametrize("jobs", JOBS)
@pytest.mark.parametrize("count", [0, 1, 5, 200])
def test_results_come_in_the_order_of_the_calls(jobs: int, count: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.001 * (number * 7 % 3))
        return number

    assert list(in_order((partial(work, number) for number in range(count)), jobs=jobs)) == list(range(count))


@pytest.mark.parametrize("jobs", JOBS)
def test_so_many_threads_compute_and_the_caller_is_one(jobs: int) -> None:
    # Each call waits until as many are under way as may be.
    together = threading.Barrier(jobs, timeout=60)

    def work() -> int:
        together.wait()
        return threading.get_ident()

    threads = set(in_order([work] * (3 * jobs), jobs=jobs))
    assert len(threads) == jobs
    assert threading.get_ident() in threads


@pytest.mark.parametrize("jobs", JOBS)
def test_calls_are_asked_for_by_the_caller_and_not_far_ahead(jobs: int) -> None:
    asked = 0

    def calls() -> Iterator[Callable[[], None]]:
        nonlocal asked
        caller = threading.get_ident()
        for _ in range(100):
            assert threading.get_ident() == caller
            asked += 1
            yield lambda: None

    for done, _ in enumerate(in_order(calls(), jobs=jobs)):
        assert asked - done <= 2 * jobs
    assert asked == 100


@pytest.mark.parametrize("jobs", JOBS)
def test_an_error_comes_in_its_turn(jobs: int) -> None:
    error = ValueError("the third")

    def fail() -> int:
        raise error

    results = in_order([lambda: 1, lambda: 2, fail, lambda: 4], jobs=jobs)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError) as caught:
        next(results)
    assert caught.value is error


@pytest.mark.parametrize("jobs", JOBS)
def test_an_error_in_what_names_the_calls_is_not_swallowed(jobs: int) -> None:
    error = OSError("pipe broke")

    def calls() -> Iterator[Callable[[], int]]:
        yield lambda: 1
        raise error

    with pytest.raises(OSError) as caught:
        list(in_order(calls(), jobs=jobs))
    assert caught.value is error


@pytest.mark.parametrize("jobs", JOBS)
def test_no_thread_stays_when_nobody_asks_for_the_rest(jobs: int) -> None:
    before = threading.active_count()
    results = in_order([lambda: 1] * 100, jobs=jobs)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_what_ends_another_thread_ends_the_caller_too() -> None:
    caller = threading.get_ident()

    def work() -> None:
        if threading.get_ident() != caller:
            raise SystemExit(3)
        time.sleep(0.01)

    with pytest.raises(SystemExit):
        list(in_order([work] * 1000, jobs=2))


def test_a_keyboard_interrupt_while_the_caller_computes_ends_it_at_once() -> None:
    caller = threading.get_ident()

    def work() -> None:
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        list(in_order([work] * 1000, jobs=2))


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_without_room_one_call_is_taken_at_a_time(jobs: int) -> None:
    taken = 0

    def calls() -> Iterator[Callable[[], int]]:
        nonlocal taken
        for number in range(9):
            taken += 1
            yield partial(int, number)

    for done, result in enumerate(in_order(calls(), jobs=jobs, has_room=lambda: False)):
        assert (result, taken) == (done, done + 1)
