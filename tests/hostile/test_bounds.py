"""A file of a megabyte takes no more than 300 MB and 5 s, whatever it is, and is answered on one screen.

The commands run with 64 jobs, as they would on a machine of 64 cores. Seconds are those of a processor (a machine may
be busy with others), and the kernel counts both.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.hostile import bombs
from tests.hostile.commands import DIFFERING, READ_CONTENT, SLOW
from tests.support.process import run

pytestmark = pytest.mark.slow

# They take all commands a minute together; `make soak-bounds` has them, and all commands with those of SLOW.
LONG = {"lock of many repos", "lock of many names"}


def in_batches(names: list[str], count: int) -> list[list[str]]:
    """So many lists of names: a process that has imported what commands need gives several files to them."""
    return [names[start::count] for start in range(count)]


def rows_of(module: str, names: list[str], scratch: Path) -> dict[str, dict[str, int]]:
    """What each command (exit code) made of each file, when nothing was wrong with what it took."""
    argv = [sys.executable, "-m", f"tests.hostile.{module}", *names]
    done = run(argv, cwd=Path(__file__).parents[2], env={"TMPDIR": str(scratch)}, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, [row for row in rows if row[-1]]) == (0, []), done.stdout + done.stderr
    found: dict[str, dict[str, int]] = {}
    for name, command, code, *_ in rows:
        found.setdefault(name, {})[command] = code
    return found


@pytest.mark.parametrize("names", in_batches(sorted(bombs.BUNDLES.keys() - LONG), 6), ids="; ".join)
def test_hostile_bundles_stay_within_bounds(tmp_path: Path, names: list[str]) -> None:
    """All commands with each file, or those that differ in what they read where all together take long."""
    found = rows_of("commands", ["--differing", *names], tmp_path)
    assert set(found) == set(names)
    for name, codes in found.items():
        assert codes.keys() >= DIFFERING and (name in SLOW or codes.keys() >= READ_CONTENT)
        assert all(codes[command] > 1 for command in READ_CONTENT & codes.keys()), (name, codes)


@pytest.mark.parametrize("names", in_batches(sorted(bombs.text_bombs()), 3), ids="; ".join)
def test_hostile_texts_stay_within_bounds(tmp_path: Path, names: list[str]) -> None:
    """As a manifest, a policy, a signature and a receipt, each is refused."""
    found = rows_of("texts", names, tmp_path)
    assert set(found) == set(names)
    for codes in found.values():
        assert len(codes) == 5 and min(codes.values()) > 1, codes
