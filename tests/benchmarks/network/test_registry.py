"""The harness of `make bench-registry`: it runs, and judges goals within a round. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.lib.measure import Run
from benchmarks.registry import run
from benchmarks.scale.registry import why_not


@pytest.mark.benchmarks
@pytest.mark.skipif(why_not() is not None, reason=f"{why_not()}")
def test_a_small_bundle_goes_there_and_back_and_nothing_is_left(tmp_path: Path) -> None:
    options = ["--shape", "tiny", "--rounds", "1", "--kills", "2", "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(run.main, options, catch_exceptions=False)
    assert done.exit_code == 0
    rows = [line.split(" | ")[0] for line in done.output.splitlines() if line.startswith("| ")]
    assert rows[2:7] == [
        f"| {name}"
        for name in ("push", "pull", "install what was pulled", "install from the registry", "cat of one tensor")
    ]
    assert not (tmp_path / "work").exists()


def taken(wall: float) -> Run:
    return Run(wall_seconds=wall, cpu_seconds=1.0, peak_bytes=90_000_000, flush_seconds=0, size_bytes=0)


def test_goals_are_judged_within_a_round() -> None:
    found = {
        "push": [taken(5)],
        "pull": [taken(3), taken(6)],
        "install what was pulled": [taken(3), taken(6)],
        "install from the registry": [taken(4), taken(8)],
        "cat of one tensor": [taken(0.3), taken(0.6)],
    }
    rows = run.markdown(found, [106, 106], 100, 1100, 1000).splitlines()
    assert rows[3] == "| pull | **4.50 s** [3.00–6.00] | **1.00 s** [1.00–1.00] | 90 MB | reached: 300 MB |"
    assert rows[-4].endswith("| **1.50 ×** [1.50–1.50] faster | reached: 1.4 × |")
    assert rows[-3].endswith("| **0.050** [0.050–0.050] | reached: 1/15 |")
    assert rows[-2].endswith("| **1.060 ×** [1.060–1.060] | **not reached**: 1.05 × |")
    assert rows[-1].endswith("| 1.10 × the bundle | |")


def test_the_published_page_has_a_place_for_it() -> None:
    assert run.MARKS.stand_in(Path(run.__file__).parents[1] / "README.md")
