"""Buffers go round, and nobody sees what another left in them."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from bundler.format.codec.buffers import MOST_IN_FLIGHT, Budget, BufferPool, Flight
from bundler.format.reader import BundleReader
from tests.support.bundles import locked_repo, tiny_bundle


def test_a_buffer_that_was_given_back_is_taken_again() -> None:
    pool = BufferPool(10)
    first, second = pool.take(), pool.take()
    assert first is not second
    pool.give(first)
    assert pool.take() is first
    assert len(first) == len(second) == 10


def test_chunks_read_with_reused_memory_are_those_read_alone(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(30 << 20)
    with BundleReader(
        tiny_bundle(tmp_path, locked_repo("org/model", {"w.bin": noise}, lfs=["w.bin"]), contents=[noise])
    ) as reader:
        numbers = range(len(reader.index.chunks))
        assert len(numbers) > 6  # more than `jobs` of 1 holds at once
        alone = [bytes(reader.chunk(number)) for number in numbers]
        assert [bytes(raw) for _, raw in reader.chunks(numbers, jobs=1)] == alone


def test_a_longer_buffer_than_the_pools_is_made_for_once() -> None:
    pool = BufferPool(10)
    longer = pool.take(11)
    assert len(longer) == 11
    pool.give(longer)
    assert len(pool.take()) == 10


def test_a_budget_has_room_again_when_the_first_is_given_back() -> None:
    budget = Budget()
    budget.take(64 << 20, 1 << 20)  # Worth a quarter of it.
    assert budget.has_room()
    budget.take(16 << 20, 0)
    assert not budget.has_room()
    budget.give()
    assert budget.has_room()


def test_chunks_that_store_what_chunks_of_weights_do_are_decoded_on_all_cores() -> None:
    budget = Budget()
    for _ in range(1000):
        budget.take(8 << 20, 1 << 20)
    assert budget.has_room()


@pytest.mark.parametrize(("jobs", "most"), [(1, 1), (2, 4), (8, 16), (64, MOST_IN_FLIGHT)])
def test_so_many_chunks_are_in_flight_and_no_more_however_many_cores(jobs: int, most: int) -> None:
    flight = Flight(jobs)
    landings = [flight.take(1000, 1000) for _ in range(most) if flight.wait()]
    thread = threading.Thread(target=flight.wait)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    landings[0]()
    thread.join(60)
    assert not thread.is_alive()


def test_what_costs_much_memory_flies_alone() -> None:
    flight = Flight(8)
    land = flight.take(80 << 20, 0)
    thread = threading.Thread(target=flight.wait)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    land()
    thread.join(60)
    assert not thread.is_alive()


def test_what_waits_for_something_else_goes_on_when_all_have_landed() -> None:
    flight = Flight(8)
    land = flight.take(1, 1)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(flight.wait(lambda: False)))
    thread.start()
    thread.join(0.05)
    assert found == []
    land()
    thread.join(60)
    assert found == [True]


def test_nobody_waits_for_what_will_never_land() -> None:
    flight = Flight(1)
    flight.take(1, 1)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(flight.wait()))
    thread.start()
    flight.stop()
    thread.join(60)
    assert found == [False]
