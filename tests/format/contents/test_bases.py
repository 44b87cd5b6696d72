"""The list of bases: what it may say, and where a chunk finds the words that it is the difference from."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest

from bundler.errors import FormatError
from bundler.format.contents.bases import (
    MAX_DEPTH,
    MIN_BASE_BYTES,
    PLACE_BYTES,
    BasePlace,
    Differences,
    bases_text,
    check_bases,
    parse_bases,
)

A, B, C = "a" * 64, "b" * 64, "c" * 64
M = MIN_BASE_BYTES


def test_the_list_comes_back_as_it_was_written() -> None:
    bases = {B: (A,), A: (C, B)}
    assert bases_text(bases) == f"{A} {C} {B}\n{B} {A}\n".encode()
    assert parse_bases(bases_text(bases)) == bases


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{A}\n",
        f"{A} {B}",
        f"{A}  {B}\n",
        f"{A} {B[:-1]}\n",
        f"{B} {A}\n{A} {B}\n",
        f"{A} {B}\n{A} {C}\n",
        "é",
    ],
)
def test_a_list_that_no_writer_would_make_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_bases(text.encode())


@pytest.mark.parametrize(
    ("bases", "sizes", "is_delta"),
    [
        pytest.param({A: (A,)}, {A: M}, True, id="itself"),
        pytest.param({A: (B,)}, {A: M, B: M}, True, id="a later one"),
        pytest.param({A: (B,), B: (A,)}, {A: M, B: M}, True, id="a circle"),
        pytest.param({A: (B,)}, {A: M}, False, id="none in a whole bundle"),
        pytest.param({B: (A,)}, {A: M - 1, B: M}, True, id="a short base"),
        pytest.param({A: (B,)}, {A: M - 1}, True, id="of short content"),
        pytest.param({A: (B,), C: (B,)}, {A: M}, True, id="of content that is not there"),
    ],
)
def test_bases_that_cannot_be_there_in_time_are_refused(
    bases: dict[str, tuple[str, ...]], sizes: Mapping[str, int], is_delta: bool
) -> None:
    with pytest.raises(FormatError):
        check_bases(bases, sizes, is_delta=is_delta)


def test_bases_before_or_elsewhere_are_accepted() -> None:
    check_bases({B: (A,)}, {A: M, B: M}, is_delta=False)
    check_bases({B: (C, A)}, {A: M, B: M}, is_delta=True)


def test_a_row_of_differences_has_an_end() -> None:
    names = [f"{number:064x}" for number in range(MAX_DEPTH + 2)]
    bases = {name: (before,) for before, name in pairwise(names)}
    allowed = dict(list(bases.items())[:MAX_DEPTH])
    check_bases(allowed, dict.fromkeys(names, M), is_delta=False)
    with pytest.raises(FormatError):
        check_bases(bases, dict.fromkeys(names, M), is_delta=False)


def test_a_chunk_begins_with_the_place_of_its_base() -> None:
    place = BasePlace(2, 5 << 40)
    assert len(place.pack()) == PLACE_BYTES
    assert BasePlace.parse(memoryview(place.pack() + b"frames")) == place
    for wrong in (b"", place.pack()[:-1], b"x" + place.pack()[1:]):
        with pytest.raises(FormatError):
            BasePlace.parse(memoryview(wrong))


def test_only_a_chunk_inside_one_content_has_its_bases() -> None:
    differences = Differences([(100, 200, (A,)), (300, 400, (B, C))])
    assert differences.find_base(100, 200, BasePlace(0, 0)) == A
    assert differences.find_base(350, 360, BasePlace(1, 0)) == C
    for start, stop, number in (
        (0, 50, 0),
        (90, 150, 0),
        (150, 201, 0),
        (200, 210, 0),
        (100, 200, 1),
        (250, 350, 0),
    ):
        with pytest.raises(FormatError):
            differences.find_base(start, stop, BasePlace(number, 0))
