"""Killed with SIGKILL at steps on the file system: never a half-visible repo, always finished by the next run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.process import run

# A kill at every step takes minutes: `make soak-home` has them all. An installation from a stream takes the steps of
# one from a file, so these two are killed at steps that differ, and two of every three are met.
EVERY = 3
FIRST = {"install": 0, "stream": 1, "upgrade": 2, "remove": 0}


@pytest.mark.parametrize("action", FIRST)
def test_killed_at_a_step_it_leaves_all_or_nothing_visible_and_the_next_run_finishes(
    tmp_path: Path, action: str
) -> None:
    """Whichever step it is: the kills go through the whole action, also through the changes of its refs."""
    argv = [sys.executable, "-m", "tests.support.killing", tmp_path, action, str(EVERY), str(FIRST[action])]
    outcome = json.loads(run(argv).stdout)
    assert outcome["steps"] > 15 * EVERY
    if action in ("install", "stream"):
        # The sweep is worth something only if it met states before, between and after the refs.
        everything = "hub/datasets--org--d,hub/datasets--d,hub/models--org--m,hub/models--m"
        assert {"", everything} < set(outcome["seen"])
