"""bundler.format.compressors: frames that stock zstd reads, as small as their content allows."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable

import numpy as np
import pytest
import zstandard

from bundler.format import compressors
from bundler.format.compressors import compress, compress_exponents, compress_mantissa

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "any": lambda content: compress(content, 3),
    "exponents": compress_exponents,
    "mantissa": compress_mantissa,
}
PLANE_BYTES = 2 << 20


def exponents(count: int = PLANE_BYTES) -> bytes:
    """Return the exponents of normally distributed weights."""
    weights = np.random.default_rng(1).normal(0, 0.02, count).astype("<f4")
    return (weights.view("<u4") >> 23).astype(np.uint8).tobytes()


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize(
    "content", [b"", b"x", bytes(PLANE_BYTES), exponents()], ids=["none", "one", "zeros", "weights"]
)
def test_zstd_itself_reads_the_frame_and_its_header_tells_the_length(kind: str, content: bytes) -> None:
    frame = COMPRESS[kind](content)
    assert zstandard.get_frame_parameters(frame).content_size == len(content)
    said = subprocess.run(["zstd", "-dc"], input=frame, capture_output=True, check=True)
    assert said.stdout == content


@pytest.mark.parametrize("content", [exponents(), exponents(3 * 4096) * 100, bytes(100_000) + exponents()])
def test_equal_content_gives_equal_bytes_in_any_thread_whatever_came_before(content: bytes) -> None:
    expected = compress_exponents(content)
    found = []

    def work() -> None:
        compress_exponents(b"something else")
        found.append(compress_exponents(content))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [expected] == [compress_exponents(content)]


def test_what_comes_again_within_a_plane_of_exponents_is_found() -> None:
    rows = exponents(4096) * (PLANE_BYTES // 4096)
    assert len(compress_exponents(rows)) < 0.01 * len(rows)
    padded = exponents(PLANE_BYTES // 2) + bytes(PLANE_BYTES // 2)
    assert len(compress_exponents(padded)) < 0.51 * len(compress_exponents(exponents()))


def test_a_zstd_that_knows_no_such_setting_is_asked_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressors, "_ENTROPY_CODER", {987_654: 1})
    monkeypatch.setattr(compressors, "_per_thread", compressors._PerThread())
    content = exponents()
    frame = compress_exponents(content)
    assert zstandard.decompress(frame) == content
    assert len(frame) < 0.4 * len(content)
