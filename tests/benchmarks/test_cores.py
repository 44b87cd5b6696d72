"""The harness of `make bench-cores`: it runs, and its model is that of the page. No figure is judged here."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.cores import run as cores

PACK = {"all": 1.6, "turns": 0.01, "writing": 0.2, "blake3": 0.16}
INSTALL = {"all": 1.6, "turns": 0.01, "writing": 0.0, "blake3": 0.16, "sha256": 0.8}


def test_a_small_model_is_packed_and_installed_and_nothing_is_left(tmp_path: Path) -> None:
    options = ["--shape", "tiny", "--rounds", "1", "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(cores.main, options, catch_exceptions=False)
    assert done.exit_code == 0
    rows = [line.split(" | ")[0] for line in done.output.splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| CPU of all threads")
    assert rows[-1] == "| model: 64 cores"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("count", "rate"), [(2, 2 / 1.6), (8, 8 / 1.6), (16, 5.0), (64, 5.0)])
def test_a_bundle_is_packed_no_faster_than_one_thread_writes_it(count: int, rate: float) -> None:
    assert cores.model_rate("pack", PACK, count) == pytest.approx(rate)


@pytest.mark.parametrize(("count", "rate"), [(2, 1.25), (8, 5.0), (16, 10.0), (64, 40.0)])
def test_files_that_take_turns_are_hashed_side_by_side(count: int, rate: float) -> None:
    assert cores.model_rate("install", INSTALL, count) == pytest.approx(rate)


@pytest.mark.parametrize("kind", ["all", "turns", "writing", "blake3"])
def test_a_clock_that_was_not_asked_ends_it(kind: str) -> None:
    cores.check_clocks("pack", PACK)
    with pytest.raises(click.ClickException, match=f"pack: expected a time for '{kind}', found none"):
        cores.check_clocks("pack", PACK | {kind: 0.0})


def test_goals_are_judged() -> None:
    table = cores.markdown([{"pack": PACK, "install": INSTALL}]).splitlines()
    assert table[4] == "| in order: writing the bundle | 0.200, 12.5 %, of the bundle |  |"
    assert table[6] == "| in order: SHA-256 of the content |  | 0.800, 50.0 %, of each file |"
    assert table[7].endswith("| **12.5 %**, **not reached**: 5 % | **0.6 %**, reached: 5 % |")
    assert table[10] == "| model: 16 cores | 5.0 GB/s, **not reached**: 8 | 10.0 GB/s, reached: 8 |"


def test_the_published_page_has_a_place_for_it() -> None:
    assert cores.MARKS.stand_in(Path(cores.__file__).parents[1] / "README.md")
