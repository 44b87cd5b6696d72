"""bundler.format.reading.turns: files take turns, and each of them comes in order."""

from __future__ import annotations

import pytest

from bundler.format.reading.turns import take_turns

NUMBERS = [0, 1, *range(3, 20)]
FILES = [range(3, 7), range(7, 9), range(10, 16)]


@pytest.mark.parametrize("at_once", [0, 1, 2, 3, 9])
def test_every_chunk_comes_once_and_those_of_each_file_in_order(at_once: int) -> None:
    found = list(take_turns(NUMBERS, FILES, at_once))
    assert sorted(found) == NUMBERS
    for file in FILES:
        assert [number for number in found if number in file] == list(file)
    others = [number for number in found if not any(number in file for file in FILES)]
    assert others == [0, 1, 9, 16, 17, 18, 19]


def test_two_files_and_the_rest_take_turns_and_a_third_follows_the_one_that_ends() -> None:
    assert list(take_turns(NUMBERS, FILES, 2)) == [
        0,
        3,
        7,
        1,
        4,
        8,
        9,
        5,
        10,
        16,
        6,
        11,
        17,
        12,
        18,
        13,
        19,
        14,
        15,
    ]


def test_without_files_of_their_own_chunks_come_as_they_are() -> None:
    assert list(take_turns(NUMBERS, [], 8)) == NUMBERS
