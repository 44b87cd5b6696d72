"""The harness of `make bench-files`: it runs, and its table says what was measured. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from benchmarks.lib.measure import Run, Step
from benchmarks.pack import small_files

STEP = Step(argv=[], shown="ours")
OTHER = Step(argv=[], shown="theirs")


def run(cpu_seconds: float, peak_bytes: int = 0) -> Run:
    """One run of which all else is nothing."""
    return Run(wall_seconds=0, cpu_seconds=cpu_seconds, peak_bytes=peak_bytes, flush_seconds=0, size_bytes=0)


def test_a_few_files_go_through_all_steps_and_nothing_is_left(tmp_path: Path) -> None:
    options = ["--files", "3", "--rounds", "1", "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(small_files.main, options, catch_exceptions=False)
    assert done.exit_code == 0
    rows = [line.split(" | ")[0] for line in done.output.splitlines() if line.startswith("| bundle")]
    assert rows == ["| bundle install", "| bundle verify", "| bundle run -- true", "| bundle remove"]
    assert not (tmp_path / "work").exists()


def test_ratios_within_a_round_are_judged_by_their_goal() -> None:
    taken = {"install": [(run(8.0), run(1.0)), (run(9.0, 400_000_000), run(3.0))], "launch": [(run(1.0), None)]}
    steps = {"install": (STEP, OTHER), "launch": (STEP, None)}
    assert small_files.markdown(taken, steps).splitlines()[2:] == [
        "| ours | **8.50 s** [8.00–9.00] | 400 MB, **not reached**: 300 MB | theirs | **2.00 s** [1.00–3.00] "
        "| **5.5** [3.0–8.0], **not reached**: 4 |",
        "| ours | **1.00 s** [1.00–1.00] | 0 B | | | |",
    ]


def test_the_published_page_has_a_place_for_it() -> None:
    assert small_files.MARKS.stand_in(Path(small_files.__file__).parents[1] / "README.md")
