"""A launch inside a launch: whatever the inner one is told, the outer one sees what was tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.offline.conftest import COUNTING, KINDS, OUTSIDE, PYTHON, BundleRun
from tests.offline.kernel.test_isolation import RAW_CONNECT
from tests.support.messages import Told
from tests.support.process import script

# Seen by the guard; a program that swallows the error.
IN_PYTHON = f"""
import socket
try:
    socket.socket().connect(("{OUTSIDE}", 80))
except RuntimeError:
    pass
"""


def inner(*words: str | Path) -> list[str | Path]:
    """A launch inside: not strict, and with its report to nobody."""
    return [script("bundle"), "run", *words]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outer", KINDS)
def test_what_python_tries_in_an_inner_launch_fails_the_strict_outer_one(
    bundle_run: BundleRun, tmp_path: Path, outer: str, kind: str
) -> None:
    report = tmp_path / "inner.json"
    words = inner("--isolate", kind, "--report", report, "--", PYTHON, "-c", IN_PYTHON)
    ran = bundle_run(*words, options=("--isolate", outer, "--strict"))
    assert (ran.code, ran.attempts[0]) == (11, 1), ran.err
    assert json.loads(report.read_text())["attempts"]["python"] == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outer", [kind for kind in KINDS if kind in COUNTING])
def test_what_compiled_code_tries_in_an_inner_launch_fails_the_strict_outer_one(
    bundle_run: BundleRun, outer: str, kind: str
) -> None:
    words = inner("--isolate", kind, "--", PYTHON, "-c", RAW_CONNECT)
    ran = bundle_run(*words, options=("--isolate", outer, "--strict"))
    counted = ran.report["attempts"]
    assert (ran.code, counted["total"], ran.out) == (11, 1, "Network is unreachable\n"), ran.err  # type: ignore[index]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in COUNTING])
def test_an_outer_launch_that_does_not_count_takes_the_count_of_the_inner_one(
    bundle_run: BundleRun, kind: str, told: Told
) -> None:
    words = inner("--isolate", kind, "--", PYTHON, "-c", RAW_CONNECT)
    ran = bundle_run(*words, options=("--isolate", "none", "--strict"))
    counted = ran.report["attempts"]
    assert (ran.code, counted["kernel"], counted["inner"]) == (11, None, 1)  # type: ignore[index]
    (line,) = [line for line in ran.err.splitlines() if "in launches inside" in line]
    told("launch", "the report of a launch with a launch inside", line)


def test_an_inner_launch_that_is_killed_counts_since_nobody_knows_better(bundle_run: BundleRun) -> None:
    words = inner("--isolate", "none", "--", "sh", "-c", "kill -KILL $PPID")
    ran = bundle_run("sh", "-c", '"$@"; true', "sh", *words, options=("--isolate", "none", "--strict"))
    assert ran.code == 11
    (denial,) = ran.report["attempts"]["kernel_refused"]  # type: ignore[index]
    assert denial["target"].startswith("unknown: a launch inside this one ended")
    assert "run" in denial["argv"]


def test_inner_launches_that_try_nothing_fail_no_outer_one(bundle_run: BundleRun) -> None:
    job = ("for word in true no-such-command-here; do", *map(str, inner("--", '"$word"')), "; done; true")
    ran = bundle_run("sh", "-c", " ".join(job), options=("--strict",))
    assert (ran.code, ran.report["attempts"]["total"]) == (0, 0), ran.err  # type: ignore[index]


def test_launches_three_deep_are_read_to_the_bottom(bundle_run: BundleRun) -> None:
    words = inner("--isolate", "none", "--", *inner("--isolate", "none", "--", PYTHON, "-c", IN_PYTHON))
    ran = bundle_run(*words, options=("--strict",))
    assert ran.attempts[0] == 1, ran.err
