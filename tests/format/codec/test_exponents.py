"""Planes of exponents as frames of literals: both codes write the same bytes, zstd decodes them, and they are short."""

from __future__ import annotations

import heapq
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bundler.format.codec import codecs, exponents
from bundler.format.codec.codecs import PLANES2, PLANES4, Codec, room_bytes
from bundler.format.codec.frames import BLOCK_BYTES, frame_bytes, stored_frame_bytes
from bundler.format.codec.words import Way, compiled_way, numpy_way

Plane = NDArray[np.uint8]

WAYS = [way for way in (numpy_way(), compiled_way()) if way is not None]
SIZES = [0, 1, 7, 1023, 1024, 1025, 1027, BLOCK_BYTES - 1]


def encode(plane: Plane | bytes) -> bytes:
    """Return the frame, empty where the plane is not for this code: of every code the same, and what zstd decodes."""
    content = memoryview(bytes(plane))
    frames = []
    for way in WAYS:
        room = memoryview(bytearray(b"\xa5" * (stored_frame_bytes(len(content)) + 16)))
        length = way.encode_exponents(content, room[:-16])
        assert room[-16:] == b"\xa5" * 16
        frames.append(bytes(room[:length]))
    assert len(set(frames)) == 1
    if frames[0]:
        assert zstandard.decompress(frames[0]) == content
        assert frame_bytes(memoryview(frames[0]), len(content)) == len(frames[0])
    return frames[0]


def draw(shares: list[float], size: int, seed: int = 0) -> Plane:
    """Return `size` values, 100 and on, of which each has its share."""
    chosen = np.array(shares) / sum(shares)
    return (100 + np.random.default_rng(seed).choice(len(shares), size, p=chosen)).astype(np.uint8)


def weights(rows: int, columns: int, column_scales: NDArray[np.float32] | float = 1.0) -> Plane:
    """Return the exponents of normal weights."""
    numbers = np.random.default_rng(columns).standard_normal((rows, columns), np.float32) * np.float32(0.02)
    return ((numbers * column_scales).astype(np.float32).view(np.uint32) >> 23 & 0xFF).astype(np.uint8).ravel()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_values_give_the_same_bytes_which_zstd_decodes(data: st.DataObject) -> None:
    least = data.draw(st.integers(0, 128))
    values = data.draw(st.integers(1, 129 - least))
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    shares = random.dirichlet(np.full(values, data.draw(st.sampled_from([0.01, 0.1, 1.0, 10.0, 1000.0]))))
    size = BLOCK_BYTES * data.draw(st.integers(1, 2)) + data.draw(st.sampled_from(SIZES))
    plane = least + random.choice(values, size, p=shares)
    plane[random.random(size) < data.draw(st.sampled_from([0, 1e-4, 0.01]))] = data.draw(st.integers(0, 128))
    encode(plane.astype(np.uint8))


@pytest.mark.parametrize("behind", SIZES)
def test_a_last_block_of_any_length_is_coded_or_stored(behind: int) -> None:
    plane = weights(300, 1024)[: BLOCK_BYTES + behind]
    whole, frame = encode(plane[:BLOCK_BYTES]), encode(plane)
    assert len(whole) < 0.35 * BLOCK_BYTES
    assert len(frame) - len(whole) <= (3 if behind else 0) + behind * (1 if behind < 1024 else 0.45)


def test_a_plane_that_is_not_for_this_code_is_left_to_another() -> None:
    plane = weights(256, 1024)
    assert encode(plane)
    assert not encode(plane[: BLOCK_BYTES - 1]), "too short"
    for value, count in ((129, 1), (255, 1), (7, BLOCK_BYTES // 2 + 200), (0, BLOCK_BYTES // 2 + 200)):
        other = plane.copy()
        other[BLOCK_BYTES : BLOCK_BYTES + count] = value
        assert not encode(other), f"{value} {count} times in the second block"
    assert not encode(bytes(BLOCK_BYTES))
    assert not encode(b"\x80" * BLOCK_BYTES)


def test_a_block_that_would_grow_is_stored() -> None:
    # What is counted is of ten values, and all else of thirty others, whose codes are long then.
    block = (70 + np.arange(BLOCK_BYTES) % 30).astype(np.uint8)
    block[exponents._SAMPLES] = draw([0.5**n for n in range(1, 11)], len(exponents._SAMPLES)) - 40
    before, frame = encode(weights(128, 1024)), encode(np.concatenate([weights(128, 1024), block]))
    assert len(frame) == len(before) + 3 + BLOCK_BYTES
    assert frame.endswith(bytes(block))


def is_left_to_zstd(plane: Plane) -> bool:
    assert encode(weights(512, 4096)), "weights alone are not"
    return not encode(plane)


@pytest.mark.parametrize("quarters", [(0, 6), (0, 0, 6, 6), (0, 6, 6, 6), (0, 0, 0, 6)])
def test_a_block_that_one_tree_does_not_suit_is_left_to_zstd_which_cuts_it(quarters: tuple[int, ...]) -> None:
    # As in an adapter, whose tensors are shorter than a block, and of two scales.
    plane = weights(512, 4096)
    pattern = np.repeat(quarters, BLOCK_BYTES // len(quarters))
    assert is_left_to_zstd((plane - np.tile(pattern, len(plane) // len(pattern))).astype(np.uint8))
    only_one = plane.copy()
    only_one[BLOCK_BYTES : 2 * BLOCK_BYTES] -= pattern.astype(np.uint8)
    assert is_left_to_zstd(only_one)
    last = np.concatenate([plane, plane[:60_000] - np.repeat(quarters, 60_000 // len(quarters)).astype(np.uint8)])
    assert is_left_to_zstd(last)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("kind", ["zeros", "one row", "rows of a codebook"])
def test_repeats_that_begin_behind_the_first_block_cost_nothing(kind: str, share: float) -> None:
    rows = weights(2048, 1024).reshape(2048, 1024).copy()
    random = np.random.default_rng(0)
    again = BLOCK_BYTES // 1024 + np.flatnonzero(random.random(2048 - BLOCK_BYTES // 1024) < share)
    others: dict[str, Plane | int] = {"zeros": 0, "one row": rows[0]}
    rows[again] = others.get(kind, rows[random.integers(0, 32, len(again))])
    plane = rows.ravel()
    # Those far apart zstd does not find either.
    assert is_left_to_zstd(plane) or len(encode(plane)) < 1.002 * len(with_matches(plane))
    assert (kind, share) == ("rows of a codebook", 0.1) or is_left_to_zstd(plane)


def test_repeats_far_into_a_long_plane_are_found() -> None:
    plane = np.concatenate([weights(2048, 1024), np.tile(weights(1, 4096), 256)])
    assert is_left_to_zstd(plane)
    assert encode(weights(5000, 1024)), "more than 16 blocks, and no repeats"


def with_matches(plane: Plane) -> bytes:
    return codecs._reuse_compressor(codecs._EXPONENTS).compress(bytes(plane))


@pytest.mark.parametrize(
    "plane",
    [
        weights(1024, 1024),
        draw([0.4, 0.3, 0.2, 0.05, *(0.05 / 2**n for n in range(1, 20))], 4 * BLOCK_BYTES),
        draw([0.3, *(0.7 / 2**n for n in range(1, 40))], 4 * BLOCK_BYTES),
        np.where(np.random.default_rng(0).random(4 * BLOCK_BYTES) < 0.2, 0, weights(512, 1024)).astype(np.uint8),
    ],
    ids=["weights", "rare values", "a long tail", "pruned"],
)
def test_what_is_drawn_takes_no_more_than_by_zstds_coder(plane: Plane) -> None:
    assert len(encode(plane)) < 1.002 * len(with_matches(plane))


@pytest.mark.parametrize("columns", [64, 128, 197, 448, 449, 509, 512, 768, 1018, 1024, 4096, 4072])
def test_what_is_counted_is_of_all_columns(columns: int) -> None:
    # Half of the columns are far smaller, as the channels of some models are.
    scales = np.where(np.arange(columns) < columns // 2, 1.0, 2.0**-12).astype(np.float32)
    plane = weights(8 * BLOCK_BYTES // columns, columns, scales)[: 8 * BLOCK_BYTES]
    assert len(encode(plane)) < 1.004 * len(with_matches(plane))


@settings(max_examples=100)
@given(st.lists(st.integers(0, 5000), min_size=2, max_size=129))
def test_lengths_are_a_whole_code_and_no_other_is_shorter(counts: list[int]) -> None:
    values = [count for count in counts if count]
    if len(values) < 2:
        return
    lengths = exponents._choose_lengths(counts)
    assert sum(2.0**-length for length in lengths if length) == 1
    assert max(lengths) <= 11
    assert [bool(length) for length in lengths] == [bool(count) for count in counts]
    # Without a limit, Huffman's is the shortest.
    heap = [(count, 0) for count in values]
    heapq.heapify(heap)
    total = 0
    deepest = 0
    while len(heap) > 1:
        (one, first), (other, second) = heapq.heappop(heap), heapq.heappop(heap)
        total += one + other
        deepest = max(first, second) + 1
        heapq.heappush(heap, (one + other, deepest))
    found = sum(count * length for count, length in zip(counts, lengths, strict=True))
    assert found == total if heap[0][1] <= 11 else found >= total


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("wrong", [-1, 1, -(1 << 17)])
def test_a_frame_of_another_length_is_refused_before_a_byte_is_written(way: Way, wrong: int) -> None:
    plane = memoryview(bytes(weights(128, 1024)))
    room = memoryview(bytearray(stored_frame_bytes(len(plane)) + wrong))
    with pytest.raises(ValueError, match=f"expected a frame of {stored_frame_bytes(len(plane))} bytes"):
        way.encode_exponents(plane, room)
    assert not any(room)


def test_what_is_no_memory_or_may_not_be_written_is_refused() -> None:
    compiled = compiled_way()
    if compiled is None:
        pytest.skip("bundler/format/codec/_words.c is not built: no C compiler when this was installed")
    plane = memoryview(bytes(BLOCK_BYTES))
    room = bytearray(stored_frame_bytes(BLOCK_BYTES))
    for arguments in ((plane, memoryview(bytes(room))), (plane, None), (None, memoryview(room)), (plane,)):
        with pytest.raises((TypeError, BufferError)):
            compiled.encode_exponents(*arguments)
    # A bytearray that somebody still holds cannot be resized.
    room.clear()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("codec", [PLANES2, PLANES4], ids=lambda codec: codec.name)
def test_masks_and_repeats_take_as_little_as_with_matches(codec: Codec, tmp_path: Path) -> None:
    one, zero = (0x3F80, 0) if codec is PLANES2 else (0x3F800000, 0)
    mask = np.where(np.tri(1024, 1024, dtype=bool), one, zero).astype(f"<u{codec.width}")
    rows = np.tile((np.random.default_rng(0).standard_normal(64, np.float32).view(np.uint32)), 1 << 14)
    repeats = (rows >> (16 if codec is PLANES2 else 0)).astype(f"<u{codec.width}")
    for words in (mask, repeats):
        raw = memoryview(words.tobytes())
        frames = codec.encode(raw, 3, memoryview(bytearray(room_bytes(len(raw)))))
        assert len(frames[0]) < 0.02 * len(raw)
        assert codec.decode(memoryview(b"".join(frames)), len(raw), memoryview(bytearray(len(raw)))) == raw


def test_the_standard_tool_decodes_it(tmp_path: Path) -> None:
    plane = weights(700, 1024)
    (tmp_path / "plane.zst").write_bytes(encode(plane))
    found = subprocess.run(["zstd", "-dc", "--no-check", tmp_path / "plane.zst"], capture_output=True, check=True)
    assert found.stdout == bytes(plane)
