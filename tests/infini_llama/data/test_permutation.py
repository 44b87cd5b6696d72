from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest

from infini_llama.data.permutation import Permutation


def shuffled(count: int, *key: int | str) -> list[int]:
    permutation = Permutation(count, *key)
    return [permutation[place] for place in range(count)]


def test_every_number_comes_once_however_many_there_are() -> None:
    for count in [*range(1, 70), 127, 128, 129, 1000, 4097]:
        assert sorted(shuffled(count, 0)) == list(range(count))


def test_seed_source_and_epoch_each_give_another_order() -> None:
    keys = [(seed, source, epoch) for seed in (0, 1) for source in ("a", "b") for epoch in (0, 1, 2)]
    assert len({tuple(shuffled(100, *key)) for key in keys}) == len(keys)
    assert shuffled(100, *keys[0]) == shuffled(100, *keys[0])


def test_the_order_is_for_ever_this_one() -> None:
    """A run that goes on with a later version must not find itself in another order."""
    assert shuffled(10, "rows", 0, "text", 0) == [9, 4, 0, 6, 8, 7, 3, 5, 1, 2]
    assert Permutation(10**9, "rows", 7, "text", 3)[123_456_789] == 581_210_775


def test_every_order_of_four_comes_about_equally_often() -> None:
    orders = Counter(tuple(shuffled(4, seed)) for seed in range(2400))
    assert len(orders) == 24
    # 100 times each, but for chance: five standard deviations.
    assert all(51 < times < 149 for times in orders.values())


def test_neighbours_are_as_far_apart_as_chance_would_have_it() -> None:
    pairs = [(permutation[0], permutation[1]) for permutation in (Permutation(17, seed) for seed in range(1600))]
    distances = Counter((second - first) % 17 for first, second in pairs)
    assert sorted(distances) == list(range(1, 17))
    assert all(51 < times < 149 for times in distances.values())


def test_the_order_of_a_billion_rows_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        permutation = Permutation(10**9, 0)
        drawn = {permutation[place] for place in range(0, 10**9, 10**6)}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(drawn) == 1000
    assert all(0 <= number < 10**9 for number in drawn)
    # The thousand numbers that the test keeps.
    assert peak < 200_000


def test_a_place_that_is_not_there_is_refused() -> None:
    for place in (-1, 10):
        with pytest.raises(IndexError):
            Permutation(10, 0)[place]
