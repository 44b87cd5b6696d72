"""The harness of `make bench-home`: it runs, and its table says what was measured. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.home import run


def test_each_round_measures_every_installation_and_the_first_and_last_state(tmp_path: Path) -> None:
    readings = run.measure(run.make_bundles(tmp_path / "bundles", count=2, files=3), 2, tmp_path)
    assert {what: len(values) for what, values in readings.items()} == dict.fromkeys(
        ["install 1", "run 1", "verify 1", "install 2", "run 2", "verify 2"], 2
    )
    assert all(value > 0 for what, values in readings.items() if what != "verify 1" for value in values)


def test_ratios_are_of_medians_and_judged_by_their_goal() -> None:
    readings = {
        "install 2": [1.0, 2.0, 9.0],
        "install 10": [2.0, 2.2, 2.4],
        "run 1": [1.0],
        "run 10": [1.5],
        "verify 1": [0.1],
        "verify 10": [1.0],
    }
    assert run.markdown(readings, 10).splitlines()[2:] == [
        "| `bundle install`, the second and the last | **2.00 s** [1.00–9.00] | **2.20 s** [2.00–2.40] | 1.10 "
        "| reached: 1.2 |",
        "| `bundle run --bundle b0`, with one installed and with all | **1.00 s** [1.00–1.00] "
        "| **1.50 s** [1.50–1.50] | 1.50 | **not reached**: 1.2 |",
        "| all verified by names and sizes, one and all | **0.10 s** [0.10–0.10] | **1.00 s** [1.00–1.00] | 10.00 "
        "| reached: 12 |",
    ]


def test_the_published_page_has_a_place_for_it() -> None:
    assert run.MARKS.stand_in(Path(run.__file__).parents[1] / "README.md")
