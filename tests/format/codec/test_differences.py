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
from bundler.format.codec.codecs import DIFFERENCE2, DIFFERENCE4, DifferenceCodec, is_difference
from bundler.format.codec.frames import BLOCK_BYTES, stored_frame

pytestmark = pytest.mark.usefixtures("way")

both = pytest.mark.parametrize("codec", [DIFFERENCE2, DIFFERENCE4], ids=lambda codec: codec.name)


def encoded(codec: DifferenceCodec, raw: bytes, base: bytes) -> bytes:
    return b"".join(codec.encode(memoryview(raw), memoryview(base)))


def decoded(codec: DifferenceCodec, stored: bytes, base: bytes) -> bytes:
    room = memoryview(bytearray(b"\xa5" * (len(base) + 1)))
    return bytes(codec.decode(memoryview(stored), memoryview(base), len(base), room))


@both
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


@both
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


@both
def test_what_did_not_change_takes_next_to_nothing(codec: DifferenceCodec) -> None:
    raw = np.random.default_rng(0).bytes(1 << 20)
    assert len(encoded(codec, raw, raw)) < len(raw) / 1000


@both
def test_stock_zstd_takes_the_frames(codec: DifferenceCodec, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "frames.zst"
    path.write_bytes(encoded(codec, generator.bytes(400_000), generator.bytes(400_000)))
    subprocess.run(["zstd", "-tq", path], check=True)


@both
def test_planes_of_the_wrong_number_or_size_are_refused(codec: DifferenceCodec) -> None:
    base = bytes(range(256)) * 16
    frames = codec.encode(memoryview(base[::-1]), memoryview(base))
    for wrong in (frames[:-1], [*frames, frames[0]], [frames[0]] * (codec.width - 1) + [stored_frame(b"short")]):
        with pytest.raises(FormatError):
            decoded(codec, b"".join(wrong), base)
    with pytest.raises(FormatError):
        decoded(codec, b"".join(frames), base[:-1])


def test_only_these_codecs_need_a_base() -> None:
    assert [number for number in range(6) if is_difference(number)] == [DIFFERENCE2.number, DIFFERENCE4.number]
