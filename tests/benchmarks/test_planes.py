"""The harness of `make bench-planes`: both codes and both encoders are measured. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.planes import run
from bundler.format.codec.words import compiled_way


def test_each_step_is_measured_by_both_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compiled_way()
    if compiled is None:
        pytest.skip("bundler/format/codec/_words.c is not built: no C compiler when this was installed")
    monkeypatch.setattr(run, "CHUNK_BYTES", 1 << 18)
    readings = run.compare_ways(compiled, count=2, rounds=2)
    assert len(readings) == 19
    assert all(len(left) == len(right) == 2 for left, right in readings.values())


def test_both_coders_of_exponents_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compiled_way()
    if compiled is None:
        pytest.skip("bundler/format/codec/_words.c is not built: no C compiler when this was installed")
    # It stops where a frame does not decode to the plane.
    monkeypatch.setattr(run, "CHUNK_BYTES", 1 << 20)
    readings, ratio = run.compare_encoders(compiled, count=2, rounds=1)
    assert set(readings) == {"exponents: encode", "exponents: decode, by zstd"}
    assert 0.98 < ratio < 1.02


def test_the_table_has_medians_and_the_ratio_within_rounds() -> None:
    table = run.markdown({"a step": ([3.0, 1.0, 2.0], [1.0, 1.0, 1.0])}, ("one", "two"))
    assert table.splitlines()[2] == "| a step | 2.000 | 1.000 | **2.0** [1.0–3.0] |"


def test_the_published_page_has_a_place_for_it() -> None:
    assert run.MARKS.stand_in(Path(run.__file__).parents[1] / "README.md")
