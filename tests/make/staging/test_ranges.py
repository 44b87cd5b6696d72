"""What is there of a content, and the note that says so."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.make.staging.ranges import MOST_RANGES, PAGE_BYTES, Ranges, note_offset, read_note, write_note

_LENGTH = 200
_PAIRS = st.lists(st.tuples(st.integers(0, _LENGTH), st.integers(0, _LENGTH)), max_size=12)


@given(_PAIRS)
def test_ranges_hold_what_was_added_and_their_holes_the_rest(pairs: list[tuple[int, int]]) -> None:
    ranges = Ranges(pairs)
    there = {byte for start, end in pairs for byte in range(start, end)}
    assert {byte for start, end in ranges for byte in range(start, end)} == there
    assert {byte for start, end in ranges.missing(_LENGTH) for byte in range(start, end)} == set(
        range(_LENGTH)
    ) - there
    assert ranges.size_bytes == len(there)
    assert ranges.front_bytes == next(byte for byte in range(_LENGTH + 1) if byte not in there)
    # Sorted, and none touches the next.
    bounds = [bound for pair in ranges for bound in pair]
    assert bounds == sorted(set(bounds))


@given(_PAIRS)
def test_a_note_says_what_was_noted(pairs: list[tuple[int, int]]) -> None:
    note = write_note(Ranges(pairs))
    assert len(note) == PAGE_BYTES
    assert list(read_note(note, _LENGTH)) == list(Ranges(pairs))


def test_a_note_stands_in_a_page_of_its_own_behind_the_content() -> None:
    assert [note_offset(length) for length in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]


def test_of_more_ranges_than_a_page_holds_the_first_are_noted() -> None:
    many = [(10 * number, 10 * number + 5) for number in range(MOST_RANGES + 9)]
    assert list(read_note(write_note(Ranges(many)), 10**6)) == many[:MOST_RANGES]


def pairs(*bounds: int, count: int | None = None) -> bytes:
    """Return a note with these numbers, whether they make sense or not."""
    count = len(bounds) // 2 if count is None else count
    text = b"bundle ranges 1\n" + struct.pack(f"<I{len(bounds)}Q", count, *bounds)
    return text.ljust(PAGE_BYTES, b"\0")


@pytest.mark.parametrize(
    "note",
    [
        b"",
        bytes(PAGE_BYTES),
        pairs(0, 10)[:-1],
        pairs(0, _LENGTH + 1),
        pairs(5, 5),
        pairs(10, 5),
        pairs(0, 20, 10, 30),
        pairs(0, 10, 10, 20),
        pairs(20, 30, 0, 10),
        pairs(0, 10, count=2),
        pairs(0, 10, count=2**32 - 1),
    ],
)
def test_a_note_that_makes_no_sense_names_nothing(note: bytes) -> None:
    assert list(read_note(note, _LENGTH)) == []
