"""Random histories of a home, with kills and jobs that read meanwhile; `make soak-home` runs a thousand of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.process import run


def test_nothing_is_lost_half_visible_or_unverified_whatever_happens_in_whatever_order(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "tests.support.histories", "0", "12", str(tmp_path)])
    assert json.loads(done.stdout) == {"histories": 12, "steps": 144}


def test_removing_and_pruning_clear_up_after_an_installation_that_was_killed(tmp_path: Path) -> None:
    # Killed while it gave a repo its other name, a link beside the folders of repos.
    done = run([sys.executable, "-m", "tests.support.histories", "982", "1", tmp_path])
    assert json.loads(done.stdout)["histories"] == 1
