"""The harness of `make bench-launch`: it runs, and its table says what was measured. No figure is judged here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.launch import connects, later, run

PRINTS = [sys.executable, "-S", "-c", "print()"]


def test_each_round_runs_every_kind() -> None:
    seconds = run.measure({"": PRINTS, "none": PRINTS}, 2)
    assert [len(values) for values in seconds.values()] == [2, 2]
    assert all(value > 0 for values in seconds.values() for value in values)


def test_a_launch_that_fails_ends_the_measurement_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match=r"(?s)ended with 3:\nout of order"):
        run.first_line_seconds(
            [sys.executable, "-S", "-c", "import sys; sys.stderr.write('out of order'); sys.exit(3)"]
        )


def test_overheads_are_differences_within_a_round_and_judged_by_their_median() -> None:
    rows = run.markdown({"": [1.0, 2.0, 3.0], "netns": [1.1, 2.05, 3.9], "none": [2.0, 3.0, 4.0]}).splitlines()[2:]
    assert rows == [
        "| `python -c 'print()'` | **2.00 s** [1.00–3.00] | | |",
        "| `bundle run --isolate netns` | **2.05 s** [1.10–3.90] | **0.10 s** [0.05–0.90] | reached |",
        "| `bundle run --isolate none` | **3.00 s** [2.00–4.00] | **1.00 s** [1.00–1.00] | **not reached** |",
    ]


def test_the_decision_says_what_each_kind_adds() -> None:
    said = run.sentence(
        {"": [1.0, 2.0], "auto": [2.0, 3.0], "netns": [1.2, 2.4], "landlock": [2.0, 3.0], "none": [1.0, 2.0]}
    )
    assert "\n0.30 s for `netns`, 1.00 s for `landlock`. " in said


def test_what_connects_cost_is_a_ratio_within_a_round() -> None:
    rows = connects.markdown({"": ([10.0, 20.0], [2.0, 4.0]), "seccomp": ([20.0, 80.0], [2.0, 4.0])}).splitlines()
    assert rows[2:] == [
        "| plain | **15 µs** [10–20] |  | **3.00 GB/s** [2.00–4.00] |  |  |",
        "| `bundle run --isolate seccomp` | **50 µs** [20–80] | **3.0 ×** [2.0–4.0] | **3.00 GB/s** [2.00–4.00] "
        "| **1.00 ×** [1.00–1.00] | reached: 3 × a connect |",
    ]


def test_files_without_content_pass_for_hashed_and_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    later.make_sparse_home(tmp_path / "home", 4_000_000_000, 4)
    _, _, read = later.launch(tmp_path / "home")
    assert read == {"hashed_bytes": 0, "stamped_bytes": 4_000_000_000}


def test_the_published_page_has_a_place_for_each() -> None:
    page = Path(run.__file__).parents[1] / "README.md"
    assert run.MARKS.stand_in(page)
    assert connects.MARKS.stand_in(page)
    assert later.MARKS.stand_in(page)
