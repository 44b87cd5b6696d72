"""The harness of `make bench-serve`: what it downloads, whose time it takes, what it prints. No figure is judged."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from benchmarks.serve import run
from benchmarks.serve.run import Served, download_all
from tests.serve.conftest import write_tree


def test_every_client_downloads_every_file_and_the_servers_time_is_taken(tmp_path: Path) -> None:
    content = os.urandom(9 << 20)
    repos = write_tree(tmp_path, {"bench/w/a.bin": content, "bench/w/config.json": b"{}"})
    with run._serve_by_bundle(repos) as (process, address):
        before = run._cpu_seconds(process)
        assert download_all(address, ["a.bin", "config.json"], 3) == 3 * (len(content) + 2)
        assert run._cpu_seconds(process) > before > 0
        assert run._peak_bytes(process) > 10_000_000


def test_what_is_not_all_sent_is_no_figure(tmp_path: Path) -> None:
    repos = write_tree(tmp_path, {"bench/w/config.json": b"{}"})
    with (
        run._serve_by_bundle(repos) as (process, address),
        pytest.raises(click.ClickException, match="expected 4 bytes, found 2"),
    ):
        run._measure(process, address, ["config.json", "missing"], 1, 4)


def test_goals_are_judged_within_a_round() -> None:
    found = {
        ("nginx", 1): [Served(0.2, 3.0, 7_000_000), Served(0.4, 3.0, 7_000_000)],
        ("folder", 1): [Served(0.3, 3.0, 60_000_000), Served(0.6, 3.5, 61_000_000)],
        ("bundle", 1): [Served(1.2, 0.7, 99_000_000), Served(2.4, 0.7, 99_000_000)],
    }
    rows = run.markdown(found).splitlines()[2:]
    assert "| **1.5** [1.5–1.5], reached: 2 |" in rows[1] and rows[1].endswith("| 61 MB |")
    assert "| **6.0** [6.0–6.0], **not reached**: 5 |" in rows[2]


def test_the_published_page_has_a_place_for_it() -> None:
    assert run.MARKS.stand_in(Path(run.__file__).parents[1] / "README.md")
