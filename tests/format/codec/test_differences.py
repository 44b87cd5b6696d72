"""Differences from a base: lossless for any bytes, open to stock zstd, and next to nothing where nothing changed."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.errors import FormatError
from bundler.format.codec.codecs import (
    DIFFERENCE2,
    DIFFERENCE4,
    DIFFERENCES,
    SORTED2,
    DifferenceCodec,
    encode_difference,
    is_difference,
)
from bundler.format.codec.frames import BLOCK_BYTES, stored_frame

pytestmark = pytest.mark.usefixtures("way")

each = pytest.mark.parametrize("codec", DIFFERENCES.values(), ids=lambda codec: codec.name)


def encoded(codec: DifferenceCodec, raw: bytes, base: bytes) -> bytes:
    return b"".join(codec.encode(memoryview(raw), memoryview(base)))


def decoded(codec: DifferenceCodec, stored: bytes, base: bytes) -> bytes:
    room = memoryview(bytearray(b"\xa5" * (len(base) + 1)))
    return bytes(codec.decode(memoryview(stored), memoryview(base), len(base), room))


@each
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_survive_over_any_others(codec: DifferenceCodec, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300)) * codec.width
    raw, base = (
        data.draw(st.binary(min_size=size, max_size=size)),
        data.draw(st.binary(min_size=size, max_size=size)),
    )
    assert decoded(codec, encoded(codec, raw, base), base) == raw


def test_every_16_bit_word_survives_over_the_words_at_the_ends_of_the_ranges() -> None:
    # NaN, infinities, subnormal numbers and both zeros are among them.
    words = np.arange(1 << 16, dtype="<u2")
    for other in (0x0000, 0x7F80, 0x7FFF, 0x8000, 0xFF80, 0xFFFF):
        base = np.full_like(words, other).tobytes()
        assert decoded(DIFFERENCE2, encoded(DIFFERENCE2, words.tobytes(), base), base) == words.tobytes()
        assert decoded(DIFFERENCE2, encoded(DIFFERENCE2, base, words.tobytes()), words.tobytes()) == base


@each
@pytest.mark.parametrize("words", [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5])
def test_noise_survives_at_every_block_boundary(codec: DifferenceCodec, words: int) -> None:
    generator = np.random.default_rng(words)
    raw, base = generator.bytes(words * codec.width), generator.bytes(words * codec.width)
    stored = encoded(codec, raw, base)
    assert decoded(codec, stored, base) == raw
    assert len(stored) <= len(raw) + codec.width * (20 + 3 * (words // BLOCK_BYTES + 1))


def test_steps_of_either_sign_leave_all_but_the_lowest_plane_zero() -> None:
    base = struct.pack("<4f", 1.0, -1.0, 3e-5, -0.02)
    words = np.frombuffer(base, "<u4") + np.array([1, 1, -2, 0], "<i4").view("<u4")
    frames = DIFFERENCE4.encode(memoryview(words.astype("<u4").tobytes()), memoryview(base))
    planes = [list(zstandard.decompress(frame)) for frame in frames]
    assert planes == [[0] * 4, [0] * 4, [0] * 4, [2, 2, 3, 0]]


def test_sorted_they_stand_by_the_exponents_of_the_base() -> None:
    # The top halves of floats, which are bf16.
    base = struct.pack("<6f", 3e-5, 1.0, -0.02, -1.5, 0.0, 1e30)
    halves = np.frombuffer(base, "<u2")[1::2]
    words = halves + np.array([-2, 1, 0, -3, 4, 5], "<i2").view("<u2")
    frames = SORTED2.encode(memoryview(words.tobytes()), memoryview(halves.tobytes()))
    # 1e30; 1.0 and 1.5, in their order; 0.02; 3e-5; 0.
    assert [list(zstandard.decompress(frame)) for frame in frames] == [[0] * 6, [10, 2, 5, 0, 3, 8]]


@pytest.mark.parametrize("words", [*range(1, 10), 1000, (1 << 13) - 1, 1 << 13, (1 << 13) + 1, BLOCK_BYTES + 3])
def test_sorted_they_stand_by_exponents_whatever_their_number(words: int) -> None:
    base = np.frombuffer(np.random.default_rng(words).bytes(2 * words), "<u2")
    # Positive steps, each of another size as far as a byte tells.
    steps = [number % 120 + 1 for number in range(words)]
    raw, theirs = (base + np.array(steps, "<u2")).tobytes(), base.tobytes()
    lowest = zstandard.decompress(SORTED2.encode(memoryview(raw), memoryview(theirs))[-1])
    order = sorted(range(words), key=lambda number: -(int(base[number]) >> 7 & 255))
    assert list(lowest) == [2 * steps[number] for number in order]
    assert decoded(SORTED2, encoded(SORTED2, raw, theirs), theirs) == raw


@pytest.mark.parametrize("shift", [16, 19])
def test_what_was_moved_by_as_much_everywhere_takes_less_sorted(shift: int) -> None:
    # bf16, and with three bits more of a fraction as fp16 has.
    generator = np.random.default_rng(0)
    base = generator.normal(0, 0.02, 1 << 20)
    raw = base + generator.normal(0, 1e-5, len(base))
    words, theirs = (
        ((each.astype("<f4").view("<u4") << np.uint32(19 - shift)) >> np.uint32(16)).astype("<u2").tobytes()
        for each in (raw, base)
    )
    codec, frames = encode_difference(memoryview(words), memoryview(theirs), 2)
    assert codec is SORTED2
    assert sum(map(len, frames)) < 0.9 * len(encoded(DIFFERENCE2, words, theirs))


@pytest.mark.parametrize(("equal", "expected"), [(0.89, SORTED2), (0.9, DIFFERENCE2), (1.0, DIFFERENCE2)])
def test_they_are_sorted_where_many_words_changed(equal: float, expected: DifferenceCodec) -> None:
    base = np.arange(1000, dtype="<u2")
    words = base + (np.arange(1000) >= 1000 * equal)
    codec, _ = encode_difference(memoryview(words.astype("<u2").tobytes()), memoryview(base.tobytes()), 2)
    assert codec is expected
    wide, zeros = memoryview(bytes(range(256)) * 4), memoryview(bytes(1024))
    assert encode_difference(wide, zeros, 4)[0] is DIFFERENCE4


@each
def test_what_did_not_change_takes_next_to_nothing(codec: DifferenceCodec) -> None:
    raw = np.random.default_rng(0).bytes(1 << 20)
    assert len(encoded(codec, raw, raw)) < len(raw) / 1000


@each
def test_stock_zstd_takes_the_frames(codec: DifferenceCodec, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "frames.zst"
    path.write_bytes(encoded(codec, generator.bytes(400_000), generator.bytes(400_000)))
    subprocess.run(["zstd", "-tq", path], check=True)


@each
def test_planes_of_the_wrong_number_or_size_are_refused(codec: DifferenceCodec) -> None:
    base = bytes(range(256)) * 16
    frames = codec.encode(memoryview(base[::-1]), memoryview(base))
    for wrong in (frames[:-1], [*frames, frames[0]], [frames[0]] * (codec.width - 1) + [stored_frame(b"short")]):
        with pytest.raises(FormatError):
            decoded(codec, b"".join(wrong), base)
    with pytest.raises(FormatError):
        decoded(codec, b"".join(frames), base[:-1])


def test_only_these_codecs_need_a_base() -> None:
    assert [number for number in range(8) if is_difference(number)] == [3, 4, 5]
