"""The harness of `make bench-differences`: it measures what it says, and its table judges. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fine_tunes import run
from tests.support.fine_tunes import make_weights, safetensors_bytes, tune


@pytest.mark.parametrize("dtype", run.WIDTHS)
def test_each_way_is_measured(tmp_path: Path, dtype: str) -> None:
    kind = {"bf16": "BF16", "fp32": "F32"}[dtype]
    words = make_weights(1, 1 << 20, kind)
    for name, each in (("base", words), ("tuned", tune(words, 2))):
        (tmp_path / f"{name}-{dtype}.safetensors").write_bytes(safetensors_bytes({"w": each}, kind))
    found = run.measure(tmp_path, dtype, rounds=2)
    # Of seven steps one leaves a word as it is.
    assert found.equal == pytest.approx(0.7 + 0.3 / 7, abs=0.01)
    assert found.unsorted < found.xor < found.alone
    # What changed here does not depend on the exponent, so that sorting brings nothing, and costs next to nothing.
    assert found.difference == pytest.approx(found.unsorted, rel=0.001)
    assert found.difference == pytest.approx(found.bundled, rel=0.01)
    assert len(found.encode_gbps) == len(found.decode_gbps) == 2


def test_ratios_and_speeds_are_judged_by_their_goals() -> None:
    reading = run.Reading(0.5, 0.66, 0.2, 0.15, 0.12, 0.1, 0.11, [0.4, 0.6, 0.7], [0.4])
    rows = run.markdown({run.Case("bf16", "1e-5", 0.1): reading}).splitlines()
    assert rows[7] == "| **difference, planes, sorted where it helps: ours** | **0.1000**, reached: 0.1 |"
    assert rows[9:] == [
        "| coding, GB/s of a core | **0.60**, reached: 0.5 |",
        "| decoding, GB/s of a core | **0.40**, **not reached**: 0.5 |",
    ]


def test_the_published_page_has_a_place_for_it() -> None:
    assert run.MARKS.stand_in(Path(run.__file__).parents[1] / "README.md")
