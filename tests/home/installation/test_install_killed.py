"""Killed with SIGKILL at every step on the file system: never a half-visible repo, always finished by the next run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle
from tests.support.process import run

FILES = {"config.json": b"{}", "w.safetensors": b"w" * 100_000}
PREPARED = {"default/0.0.0/h/d-train.arrow": b"arrow" * 1000, "default/0.0.0/h/dataset_info.json": b"{}"}


def _bundle(directory: Path, commit: str, files: dict[str, bytes]) -> Path:
    model = locked_repo("org/m", files, aliases=["m"], absent=["none.json"], lfs=["w.safetensors"], commit=commit)
    data = locked_repo("org/d", {"d.txt": b"d"}, kind="dataset", prepared=PREPARED, aliases=["d"])
    return tiny_bundle(directory, model, data, contents=[*files.values(), b"d", *PREPARED.values()])


@pytest.mark.parametrize("action", ["install", "stream", "upgrade", "remove"])
def test_killed_at_every_step_it_leaves_all_or_nothing_visible_and_the_next_run_finishes(
    tmp_path: Path, action: str
) -> None:
    old = _bundle(tmp_path / "old", OTHER_COMMIT, FILES | {"w.safetensors": b"older"})
    new = _bundle(tmp_path / "new", COMMIT, FILES)
    done = run([sys.executable, "-m", "tests.support.killing", action, old, new, tmp_path / "scratch"])
    outcome = json.loads(done.stdout)
    assert outcome["steps"] > 15
    if action in ("install", "stream"):
        # The sweep is worth something only if it met states before, between and after the refs.
        everything = "hub/datasets--org--d,hub/datasets--d,hub/models--org--m,hub/models--m"
        assert {"", everything} < set(outcome["seen"])
