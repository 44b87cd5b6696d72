"""The harness of `make bench-parity`: it runs, and judges the goal by the median. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.lib.measure import Run
from benchmarks.parity import run


@pytest.mark.benchmarks
def test_a_small_bundle_is_damaged_and_repaired_and_nothing_is_left(tmp_path: Path) -> None:
    options = ["--shape", "tiny", "--rounds", "2", "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(run.main, options, catch_exceptions=False)
    assert done.exit_code == 0
    rows = [line.split(" | ")[0] for line in done.output.splitlines() if line.startswith("| `")]
    kinds = ["parity`", "install`", "install`, of the damaged bundle", "repair`"]
    assert rows == [f"| `bundle {kind}" for kind in kinds]
    assert "| what rebuilding adds to it |" in done.output
    assert not (tmp_path / "work").exists()


def taken(cpu: float) -> Run:
    return Run(wall_seconds=1, cpu_seconds=cpu, peak_bytes=90_000_000, flush_seconds=0, size_bytes=0)


def test_the_goal_is_judged_by_the_median() -> None:
    found = {"parity": [taken(3), taken(4), taken(2)], "repair": [taken(4), taken(4), taken(3)]}
    found |= {"install": [taken(5), taken(6), taken(5)], "damaged": [taken(7), taken(8), taken(9)]}
    rows = run.markdown(found, 1_000_000_000).splitlines()
    assert rows[2].endswith("| **0.33 GB** [0.25–0.50], reached | 90 MB |")
    assert rows[3].endswith("| **5.00 s** [5.00–6.00] |  | 90 MB |")
    assert rows[-2].endswith("| **2.00 s** [2.00–4.00] | **0.50 GB** [0.25–0.50], reached | 90 MB |")
    assert rows[-1].endswith("| **0.25 GB** [0.25–0.33], **not reached** | 90 MB |")


def test_the_published_page_has_a_place_for_it() -> None:
    assert run.MARKS.stand_in(Path(run.__file__).parents[1] / "README.md")
