"""The compiled code does what numpy's does, to the last byte, and refuses what would lead it outside of its buffers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.format.codec.frames import BLOCK_BYTES, lay_out_stored_frame, stored_frame_bytes
from bundler.format.codec.words import VARIABLE, Way, chosen_way, compiled_way, numpy_way
from tests.support.process import run_python

Planes = list[list[memoryview]]

widths = pytest.mark.parametrize("width", [2, 4])

# 16-bit words at the ends of their ranges: zeros, subnormal, infinite, NaNs with and without a payload, of both signs.
_SPECIAL = [0x0000, 0x0001, 0x007F, 0x7F80, 0x7F81, 0x7FC0, 0x7FFF, 0x8000, 0x8001, 0xFF80, 0xFFC1, 0xFFFF]


@pytest.fixture(scope="module")
def compiled() -> Way:
    way = compiled_way()
    if way is None:
        pytest.skip("bundler/format/codec/_words.c is not built: no C compiler when this was installed")
    return way


def at_offset(content: bytes, offset: int) -> memoryview:
    """Writable memory with this content, at an address that is `offset` more than one that suits any word."""
    return memoryview(bytearray(bytes(offset) + content + b"\xa5"))[offset : offset + len(content)]


def empty_planes(width: int, count: int, offset: int = 0) -> Planes:
    """Planes that hold other bytes: the last in the blocks of a stored frame, the others in one piece."""
    whole = [at_offset(b"\xa5" * count, offset + number) for number in range(width - 1)]
    blocks = [[plane[start : start + BLOCK_BYTES] for start in range(0, count, BLOCK_BYTES)] for plane in whole]
    return [
        *blocks,
        lay_out_stored_frame(memoryview(bytearray(stored_frame_bytes(count))), count) if count else [],
    ]


def whole_planes(width: int, count: int, offset: int = 0) -> list[memoryview]:
    """Planes that hold other bytes, each in one piece."""
    return [at_offset(b"\xa5" * count, offset + number) for number in range(width)]


def joined(planes: Planes) -> list[bytes]:
    return [b"".join(plane) for plane in planes]


def check_equal(compiled: Way, raw: memoryview, base: memoryview, width: int, offset: int) -> None:
    """Compare both codes in all that they do."""
    count = len(raw) // width
    for split, merge in (
        (lambda way, planes: way.split(raw, planes), lambda way, planes, out: way.merge(planes, out)),
        (
            lambda way, planes: way.split_differences(raw, base, planes),
            lambda way, planes, out: way.merge_differences(planes, base, out),
        ),
    ):
        expected, found = empty_planes(width, count), empty_planes(width, count, offset)
        split(numpy_way(), expected)
        split(compiled, found)
        assert joined(found) == joined(expected)
        for way, planes in ((numpy_way(), found), (compiled, found), (compiled, expected)):
            out = at_offset(b"\x5a" * len(raw), offset)
            merge(way, planes, out)
            assert out == raw
    if width == 2:
        check_sorted_equal(compiled, raw, base, offset)


def check_sorted_equal(compiled: Way, raw: memoryview, base: memoryview, offset: int) -> None:
    count = len(raw) // 2
    theirs, ours = (whole_planes(2, count, each) for each in (0, offset))
    numpy_way().split_sorted(raw, base, theirs)
    compiled.split_sorted(raw, base, ours)
    assert ours == theirs
    for way in (numpy_way(), compiled):
        out = at_offset(b"\x5a" * len(raw), offset)
        way.merge_sorted(ours, base, out)
        assert out == raw
    assert compiled.count_equal(raw, base) == numpy_way().count_equal(raw, base)


@widths
@settings(max_examples=60)
@given(data=st.data())
def test_any_words_over_any_others_at_any_address_are_the_same(
    compiled: Way, width: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(0, 200)) * width
    pattern = st.one_of(
        st.binary(min_size=1, max_size=60),
        st.lists(st.sampled_from(_SPECIAL), min_size=1, max_size=30).map(
            lambda values: np.array(values, "<u2").tobytes()
        ),
    )

    def drawn() -> memoryview:
        content = data.draw(pattern)
        return at_offset((content * (size // len(content) + 1))[:size], data.draw(st.integers(0, 9)))

    raw, base = drawn(), drawn()
    check_equal(compiled, raw, base, width, data.draw(st.integers(0, 9)))


@widths
@pytest.mark.parametrize(
    "words", [1, 15, 16, 17, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 37]
)
def test_blocks_of_any_length_are_the_same(compiled: Way, width: int, words: int) -> None:
    generator = np.random.default_rng(words)
    raw, base = (at_offset(generator.bytes(words * width), 1) for _ in range(2))
    check_equal(compiled, raw, base, width, 3)


def test_every_16_bit_word_is_the_same_over_the_words_at_the_ends_of_the_ranges(compiled: Way) -> None:
    raw = memoryview(bytearray(np.arange(1 << 16, dtype="<u2").tobytes()))
    for other in _SPECIAL:
        base = memoryview(bytearray(np.full(1 << 16, other, "<u2").tobytes()))
        check_equal(compiled, raw, base, 2, 0)


def blocks(*planes: Iterable[int]) -> Planes:
    """Planes of blocks of these lengths."""
    return [[memoryview(bytearray(size)) for size in plane] for plane in planes]


@pytest.mark.parametrize(
    ("planes", "raw_bytes"),
    [
        (blocks(), 0),
        (blocks([4]), 4),
        (blocks([4], [4], [4]), 12),
        (blocks([4], [3]), 8),
        (blocks([4, 4], [4]), 16),
        (blocks([4], [4, 4]), 8),
        (blocks([4, 3], [3, 4]), 14),
        (blocks([4], [4]), 7),
        (blocks([4], [4]), 9),
        (blocks([4], [4]), 0),
        (blocks([], []), 2),
        (blocks([4], [4], [4], [5]), 16),
    ],
)
def test_lengths_that_do_not_agree_are_refused_before_a_byte_is_written(
    compiled: Way, planes: Planes, raw_bytes: int
) -> None:
    words, base = memoryview(bytearray(b"\x11" * raw_bytes)), memoryview(bytes(raw_bytes))
    whole = [plane[0] for plane in planes if len(plane) == 1]
    for call in (
        lambda: compiled.split(words, planes),
        lambda: compiled.merge(planes, words),
        lambda: compiled.split_differences(words, base, planes),
        lambda: compiled.merge_differences(planes, base, words),
        lambda: compiled.split_sorted(words, base, whole),
        lambda: compiled.merge_sorted(whole, base, words),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
    assert set(words) <= {0x11}
    assert not any(map(any, joined(planes)))


@widths
@settings(max_examples=100)
@given(data=st.data())
def test_lengths_are_taken_if_they_agree_and_refused_if_one_does_not(
    compiled: Way, width: int, data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(0, 4000), min_size=1, max_size=4))
    planes, raw_bytes = [list(lengths) for _ in range(width)], width * sum(lengths)
    base_bytes, change = raw_bytes, data.draw(st.sampled_from(["none", "block", "blocks", "words", "base"]))
    other = data.draw(st.integers(0, 4000))
    if change == "block":
        plane, block = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, len(lengths) - 1))
        planes[plane][block] = other
    elif change == "blocks":
        planes[data.draw(st.integers(0, width - 1))].append(other)
    elif change == "words":
        raw_bytes = base_bytes = other
    elif change == "base":
        base_bytes = other
    words, base = memoryview(bytearray(raw_bytes)), memoryview(bytes(base_bytes))
    agrees = all(plane == planes[0] for plane in planes) and raw_bytes == width * sum(planes[0])
    whole = [memoryview(bytearray(sum(plane))) for plane in planes]
    suits = width == 2 and {2 * len(plane) for plane in whole} == {raw_bytes} == {base_bytes}
    calls: list[tuple[Callable[[], None], bool]] = [
        (lambda: compiled.split(words, blocks(*planes)), agrees),
        (lambda: compiled.merge(blocks(*planes), words), agrees),
        (lambda: compiled.split_differences(words, base, blocks(*planes)), agrees and base_bytes == raw_bytes),
        (lambda: compiled.merge_differences(blocks(*planes), base, words), agrees and base_bytes == raw_bytes),
        (lambda: compiled.split_sorted(words, base, whole), suits),
        (lambda: compiled.merge_sorted(whole, base, words), suits),
        (lambda: print(compiled.count_equal(words, base)), raw_bytes % 2 == 0 and base_bytes == raw_bytes),
    ]
    for call, is_right in calls:
        if is_right:
            call()
        else:
            with pytest.raises(ValueError, match="expected"):
                call()


def test_a_base_of_another_length_is_refused(compiled: Way) -> None:
    words, whole = memoryview(bytearray(8)), [memoryview(bytearray(4)) for _ in range(2)]
    for size in (0, 7, 9):
        base = memoryview(bytes(size))
        calls: list[Callable[[], object]] = [
            lambda base=base: compiled.split_differences(words, base, blocks([4], [4])),
            lambda base=base: compiled.merge_differences(blocks([4], [4]), base, words),
            lambda base=base: compiled.split_sorted(words, base, whole),
            lambda base=base: compiled.merge_sorted(whole, base, words),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=f"expected a base of 8 bytes, found {size}"):
                call()
        with pytest.raises(ValueError, match=f"found 8 and {size} bytes"):
            compiled.count_equal(words, base)


def test_a_base_that_another_thread_changes_meanwhile_leads_nowhere_else(compiled: Way) -> None:
    count = 100_000
    out, base = (memoryview(bytearray(2 * count)) for _ in range(2))
    rooms = [memoryview(bytearray(3 * count)) for _ in range(2)]
    planes = [room[count : 2 * count] for room in rooms]
    halt, turned = threading.Event(), 0

    def turn() -> None:
        nonlocal turned
        kinds = [bytes(2 * count), b"\xff" * (2 * count)]
        while not halt.is_set():
            base[:] = kinds[turned % 2]
            turned += 1

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        for _ in range(60):
            # Over words of 0x11 no difference is zero.
            out[:] = b"\x11" * len(out)
            compiled.split_sorted(out, base, planes)
            compiled.merge_sorted(planes, base, out)
    finally:
        halt.set()
        thread.join()
    assert turned
    assert not any(any(room[:count]) or any(room[2 * count :]) for room in rooms)


def test_what_is_no_memory_or_may_not_be_written_is_refused(compiled: Way) -> None:
    words, planes = memoryview(bytearray(8)), blocks([4], [4])
    constant: Planes = [[memoryview(bytes(4))], planes[1]]
    calls: list[Callable[[], None]] = [
        lambda: compiled.split(words, constant),
        lambda: compiled.merge(planes, memoryview(bytes(8))),
        lambda: compiled.split(words[::2], planes),
        lambda: compiled.split(None, planes),
        lambda: compiled.split(words, None),
        lambda: compiled.split(words, (planes[0], planes[1])),
        lambda: compiled.split(words, [planes[0], 4]),
        lambda: compiled.split(words, [planes[0], ["text"]]),
    ]
    for call in calls:
        with pytest.raises((TypeError, BufferError)):
            call()
    compiled.split(words, planes)


def test_buffers_are_given_back(compiled: Way) -> None:
    room, planes = bytearray(8), blocks([4], [4])
    compiled.split(memoryview(room), planes)
    with pytest.raises(ValueError, match="expected"):
        compiled.split(memoryview(room)[:6], planes)
    # A bytearray that somebody still holds cannot be resized.
    room.clear()


@pytest.mark.parametrize(("value", "name"), [("0", "numpy"), ("1", "compiled"), ("", "compiled")])
def test_the_environment_chooses(compiled: Way, value: str, name: str) -> None:
    code = "from bundler.format.codec.words import chosen_way; print(chosen_way().name)"
    environment = {**os.environ, VARIABLE: value}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == name


def test_where_nothing_is_compiled_numpy_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bundler.format.codec._words", None)
    monkeypatch.delattr("bundler.format.codec._words", raising=False)
    for function in (compiled_way, chosen_way):
        function.cache_clear()
    try:
        assert compiled_way() is None
        assert chosen_way() is numpy_way()
    finally:
        for function in (compiled_way, chosen_way):
            function.cache_clear()


@pytest.mark.skipif(compiled_way() is None, reason="not compiled here")
def test_where_it_is_compiled_numpy_is_not_imported() -> None:
    code = """
    import sys
    from bundler.cli.verify import verify
    from bundler.format.codec.words import chosen_way
    print(chosen_way().name, "numpy" in sys.modules)
    """
    assert run_python(code, env={VARIABLE: ""}).stdout == "compiled False\n"
