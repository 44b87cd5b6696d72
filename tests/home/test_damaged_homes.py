"""Homes of random pieces: what `bundle install` ends with is verified, or an error and nothing worse than before."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.support.process import run


def test_whatever_state_a_home_is_in_an_installation_ends_with_everything_verified_or_with_an_error() -> None:
    # Not below pytest's own folder, which only its user may enter.
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        done = run([sys.executable, "-m", "tests.support.damaged_homes", "40", "30", scratch])
    ended = json.loads(done.stdout)
    assert sum(ended.values()) == 30
    assert ended["installed"] > 15, ended


def test_a_damaged_file_of_another_bundle_is_not_handed_over() -> None:
    # An upgrade whose neighbour's prepared file, damaged since, took the place of the verified one.
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        done = run([sys.executable, "-m", "tests.support.damaged_homes", "619", "1", scratch])
    assert json.loads(done.stdout) == {"installed": 1}
