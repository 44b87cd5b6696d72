"""The harness of `make bench-home`: it runs, and its table says what was measured. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

from benchmarks.home import large, run


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


def test_a_second_generation_adds_two_links_a_file_and_no_content(tmp_path: Path) -> None:
    measured = large.measure(tmp_path, files=7, rounds=2)
    # In its view and in the shared snapshot, and the view's link to the content.
    assert measured.added.links == 2 * 7 + 1
    assert {what: len(seconds) for what, seconds in measured.rollbacks.items()} == {
        "`rollback(…)`": 2,
        "`bundle rollback many DIGEST`": 2,
    }


def test_the_tables_of_a_large_generation_judge_the_rollback_by_its_goal() -> None:
    names = large.Names(links=21, folders=2, files=3, room_bytes=3_000_000)
    readings = large.Large(10, (1.0, 2.0), names, {"fast": [0.1, 0.2, 9.0], "slow": [0.6]})
    assert large.markdown(readings, {"BLAKE3 alone": 0.25}).splitlines()[2:] == [
        "| the first installation | 1.0 s |",
        "| the second one | 2.0 s |",
        "| it adds | 21 links, 2 folders, 3 files |",
        "| and takes | 3.0 MB of disk, 300000 bytes a file |",
        "| fast | **0.20 s** [0.10–9.00], reached: 0.5 |",
        "| slow | **0.60 s** [0.60–0.60], **not reached**: 0.5 |",
        "",
        "| digests of what is installed | CPU per GB |",
        "| --- | --- |",
        "| BLAKE3 alone | 0.25 s |",
    ]
    assert set(large.measure_hashing(1 << 22)) == set(large._HASHED)
    assert large.MARKS.stand_in(Path(large.__file__).parents[1] / "README.md")
