"""The codecs: lossless for any bytes, open to stock zstd, and never larger than the content by more than headers."""

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
    CODECS,
    PLANES2,
    PLANES4,
    ZSTD,
    Buffer,
    Codec,
    find_codec,
    room_bytes,
)
from bundler.format.codec.frames import BLOCK_BYTES, frame_bytes, stored_blocks, stored_frame
from tests.support.messages import Told

pytestmark = pytest.mark.usefixtures("way")

every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)


def encoded(codec: Codec, raw: bytes, level: int = 3) -> bytes:
    return b"".join(frames_of(codec, raw, level))


def frames_of(codec: Codec, raw: bytes, level: int = 3) -> list[Buffer]:
    # What stood in the room before must not matter.
    return codec.encode(memoryview(raw), level, memoryview(bytearray(b"\xa5" * room_bytes(len(raw)))))


def decoded(codec: Codec, stored: bytes, raw_bytes: int) -> bytes:
    return bytes(codec.decode(memoryview(stored), raw_bytes, memoryview(bytearray(b"\xa5" * (raw_bytes + 1)))))


@every_codec
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_survive(codec: Codec, data: st.DataObject) -> None:
    words = data.draw(st.integers(1, 3000))
    pattern = data.draw(st.binary(min_size=1, max_size=200))
    raw = (pattern * (words * codec.width // len(pattern) + 1))[: words * codec.width]
    assert decoded(codec, encoded(codec, raw), len(raw)) == raw


@every_codec
@pytest.mark.parametrize("words", [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5])
def test_noise_and_weights_survive_at_every_block_boundary(codec: Codec, words: int) -> None:
    generator = np.random.default_rng(words)
    noise = generator.bytes(words * codec.width)
    weights = (generator.standard_normal(words * codec.width // 2 + 4, np.float32) * 0.02).view(np.uint32) >> 16
    for raw in (noise, weights.astype("<u2").tobytes()[: words * codec.width], bytes(words * codec.width)):
        assert decoded(codec, encoded(codec, raw), len(raw)) == raw


@every_codec
def test_noise_grows_by_headers_only(codec: Codec) -> None:
    raw = np.random.default_rng(0).bytes(1 << 20)
    assert len(encoded(codec, raw)) <= len(raw) + 20 * codec.width + 3 * len(raw) // BLOCK_BYTES + 3 * codec.width


@every_codec
def test_stock_zstd_takes_the_frames(codec: Codec, tmp_path: Path) -> None:
    raw = np.random.default_rng(0).bytes(300_000) + bytes(300_000)
    path = tmp_path / "frames.zst"
    path.write_bytes(encoded(codec, raw))
    subprocess.run(["zstd", "-tq", path], check=True)
    said = subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    assert len(said) == len(raw)
    assert (said == raw) is (codec is ZSTD)


def test_the_exponents_of_bf16_fill_the_first_plane() -> None:
    # 1.0, -2.0, 0.5: sign, exponent 127 128 126, mantissa 0.
    raw = struct.pack("<3H", 0x3F80, 0xC000, 0x3F00)
    first, second = (zstandard.decompress(frame) for frame in frames_of(PLANES2, raw))
    assert list(first) == [127, 128, 126]
    assert list(second) == [0, 1, 0]


def test_the_planes_of_fp32_stand_from_top_to_bottom() -> None:
    raw = struct.pack("<2f", 1.0, -1.5)
    planes = [zstandard.decompress(frame) for frame in frames_of(PLANES4, raw)]
    assert [list(plane) for plane in planes] == [[127, 127], [0, 128], [0, 0], [0, 1]]


@pytest.mark.parametrize(("dtype", "entropy_coded"), [("bf16", PLANES2), ("fp32", PLANES4)])
def test_weights_shrink_to_about_the_entropy_of_their_exponents(dtype: str, entropy_coded: Codec) -> None:
    weights = np.random.default_rng(0).standard_normal(1 << 20, np.float32) * np.float32(0.02)
    raw = weights.tobytes() if dtype == "fp32" else (weights.view(np.uint32) >> 16).astype("<u2").tobytes()
    words = np.frombuffer(raw, f"<u{entropy_coded.width}")
    exponents = np.bincount((words >> (7 if dtype == "bf16" else 23)) & 0xFF, minlength=256) / len(words)
    bits = -sum(p * np.log2(p) for p in exponents if p)
    bound = (bits + 8 * (entropy_coded.width - 1)) / (8 * entropy_coded.width)
    assert len(encoded(entropy_coded, raw)) / len(raw) <= 1.01 * bound
    assert len(encoded(entropy_coded, raw)) < 0.9 * len(encoded(ZSTD, raw))


@settings(max_examples=100)
@given(st.integers(0, 2), st.binary(max_size=100), st.integers(1, 1000))
def test_no_stored_bytes_make_a_decoder_fail_in_another_way(number: int, stored: bytes, raw_bytes: int) -> None:
    with pytest.raises(FormatError):
        decoded(CODECS[number], stored, raw_bytes)


@pytest.mark.parametrize("codec", [PLANES2, PLANES4], ids=lambda codec: codec.name)
def test_planes_of_the_wrong_number_or_size_are_refused(codec: Codec, told: Told) -> None:
    raw = bytes(range(256)) * 16
    frames = frames_of(codec, raw)
    for wrong in (frames[:-1], [*frames, frames[0]], [frames[0]] * (codec.width - 1) + [stored_frame(b"short")]):
        with pytest.raises(FormatError):
            decoded(codec, b"".join(wrong), len(raw))
    with pytest.raises(FormatError) as caught:
        decoded(codec, b"".join(frames), len(raw) + 1)
    told("codecs", f"words of {codec.name} that are not whole", caught.value)


@given(st.binary(min_size=1, max_size=500))
def test_a_stored_frame_is_what_any_decoder_reads(content: bytes) -> None:
    frame = stored_frame(content)
    assert zstandard.decompress(frame) == content
    assert frame_bytes(memoryview(frame + b"next"), len(content)) == len(frame)
    assert b"".join(stored_blocks(memoryview(frame)) or []) == content


@given(st.binary(max_size=2000), st.integers(1, 19), st.booleans(), st.booleans())
def test_the_length_of_any_zstd_frame_is_found(content: bytes, level: int, checksum: bool, sized: bool) -> None:
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=sized)
    frame = compressor.compress(content * 50)
    assert frame_bytes(memoryview(frame + b"\x28\xb5\x2f\xfd"), 50 * len(content)) == len(frame)
    with pytest.raises(FormatError):
        frame_bytes(memoryview(frame[:-1]), 50 * len(content))
    assert stored_blocks(memoryview(frame)) is None


def test_an_unknown_codec_is_refused_with_the_known_ones(told: Told) -> None:
    with pytest.raises(FormatError) as caught:
        find_codec(7)
    assert (type(caught.value), caught.value.exit_code) == (FormatError, 7)
    told("codecs", "an unknown codec", caught.value)
