"""The harness of `make bench-trust`: it runs, and its table says what was measured. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.trust import run


@pytest.mark.benchmarks
def test_each_kind_of_key_is_measured_both_ways(tmp_path: Path) -> None:
    readings = run.measure(tmp_path, rounds=1)
    assert {
        kind: (len(signing), len(verifying)) for kind, (signing, verifying) in readings.items()
    } == dict.fromkeys(run.KINDS, (1, 1))


def test_medians_are_judged_by_their_goal() -> None:
    assert run.markdown({"rsa": ([10.0, 40.0, 90.0], [60.0])}).splitlines()[2:] == [
        "| rsa | **40** [10–90], reached: 50 | **60** [60–60], **not reached**: 50 |"
    ]


def test_the_published_page_has_a_place_for_it() -> None:
    assert run.MARKS.stand_in(Path(run.__file__).parents[1] / "README.md")
