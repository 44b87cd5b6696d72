"""bundler.files.parallel: results in order, on as many threads as asked for and no more, whatever the calls do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from bundler.files.parallel import Lane, call_all, count_down, in_order

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


@pytest.mark.parametrize("jobs", JOBS)
def test_all_calls_are_made_by_so_many_threads_and_the_caller_is_one(jobs: int) -> None:
    together = threading.Barrier(jobs, timeout=60)
    made: list[int] = []

    def work() -> None:
        together.wait()
        made.append(threading.get_ident())

    before = threading.active_count()
    call_all([work] * (3 * jobs), jobs=jobs)
    assert (len(made), len(set(made))) == (3 * jobs, jobs)
    assert threading.get_ident() in made
    assert threading.active_count() == before


@pytest.mark.parametrize("jobs", JOBS)
def test_calls_are_taken_one_at_a_time_in_order(jobs: int) -> None:
    taken: list[int] = []
    is_taking = threading.Lock()

    def calls() -> Iterator[Callable[[], None]]:
        for number in range(200):
            with is_taking:  # A generator that two threads entered would say so.
                taken.append(number)
            yield lambda: None

    call_all(calls(), jobs=jobs)
    assert taken == list(range(200))


@pytest.mark.parametrize("jobs", JOBS)
def test_of_several_calls_that_fail_the_first_is_told_and_those_taken_before_were_made(jobs: int) -> None:
    made: list[int] = []
    failed = threading.Event()

    def work(number: int) -> None:
        if number in (5, 6):
            # With several threads the second fails first.
            if number == 5 and jobs > 1:
                failed.wait(60)
            raise ValueError(number)
        made.append(number)

    told: list[bool] = []

    def on_failure() -> None:
        told.append(True)
        failed.set()

    with pytest.raises(ValueError, match="5"):
        call_all((partial(work, number) for number in range(1000)), jobs=jobs, on_failure=on_failure)
    assert set(made) >= set(range(5))
    assert len(made) < 999
    assert told


@pytest.mark.parametrize("jobs", JOBS)
def test_an_error_of_what_names_the_calls_comes_when_those_it_named_were_made(jobs: int) -> None:
    error = OSError("pipe broke")
    made: list[int] = []

    def calls() -> Iterator[Callable[[], None]]:
        for number in range(5):
            yield partial(made.append, number)
        raise error

    with pytest.raises(OSError) as caught:
        call_all(calls(), jobs=jobs)
    assert caught.value is error
    assert sorted(made) == list(range(5))


def test_an_interrupt_is_told_before_an_error() -> None:
    caller = threading.get_ident()
    interrupted = threading.Event()

    def work() -> None:
        if threading.get_ident() == caller:
            interrupted.set()
            raise KeyboardInterrupt
        interrupted.wait(60)
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        call_all([work] * 10, jobs=2)


def test_calls_on_a_lane_are_made_in_order_one_at_a_time_whoever_puts_them_there() -> None:
    lane, made = Lane(), []
    is_under_way = threading.Lock()
    starts = [0, 3, 4, 10, 11, 30]

    def call(start: int) -> None:
        assert is_under_way.acquire(blocking=False)
        made.append(start)
        is_under_way.release()

    # The first comes last, and with it all that waited.
    places = list(zip(starts, [*starts[1:], 31], strict=True))
    for start, stop in reversed(places[1:]):
        lane.put(start, stop, partial(call, start))
    assert made == []
    lane.put(0, 3, partial(call, 0))
    assert made == starts


def test_what_is_put_on_a_busy_lane_is_made_by_the_thread_that_keeps_it_busy() -> None:
    lane, makers = Lane(), []
    has_begun, may_end = threading.Event(), threading.Event()

    def first() -> None:
        has_begun.set()
        may_end.wait(60)
        makers.append(threading.get_ident())

    thread = threading.Thread(target=lambda: lane.put(0, 1, first))
    thread.start()
    has_begun.wait(60)
    lane.put(1, 2, lambda: makers.append(threading.get_ident()))
    assert makers == []
    may_end.set()
    thread.join(60)
    assert makers == [thread.ident] * 2


def test_after_an_error_nothing_more_is_called_on_a_lane() -> None:
    lane, made = Lane(), []

    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        lane.put(0, 1, fail)
    lane.put(1, 2, lambda: made.append(1))
    assert made == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_last_of_so_many_calls_ends_it(count: int) -> None:
    ends: list[bool] = []
    end = count_down(count, lambda: ends.append(True))
    for _ in range(count):
        assert ends == []
        end()
    assert ends == [True]
