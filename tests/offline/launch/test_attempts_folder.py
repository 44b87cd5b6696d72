"""bundler.offline.launch.attempts_folder: what killed launches leave is cleared, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from bundler.offline.launch.attempts_folder import attempts_folder, make_folder
from bundler.offline.variables import ATTEMPTS_DIR
from tests.support.process import script


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of this test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv(ATTEMPTS_DIR, raising=False)
    return folder


def test_a_killed_launch_leaves_its_folder_and_the_next_one_clears_it(home: Path, temporary: Path) -> None:
    words = [script("bundle"), "run", "--hf-home", home, "--isolate", "none", "--", "sh", "-c", "kill -KILL $PPID"]
    killed = subprocess.run(words, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    with attempts_folder() as folder:
        assert list(temporary.iterdir()) == [folder]
    assert not left.exists()


def test_the_folder_of_a_launch_that_lives_stays(temporary: Path) -> None:
    first = make_folder()
    with attempts_folder():
        assert first.is_dir()


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"(bundle-attempts-)[0-9a-f]{8}", r"\g<1>00000000"),  # another machine or container
        (r"(bundle-attempts-).*", r"\g<1>foreign"),
    ],
)
def test_a_folder_whose_launch_cannot_be_told_to_be_dead_stays(
    temporary: Path, pattern: str, replacement: str
) -> None:
    own = make_folder()
    # As if its process had ended: no process has started at the end of time.
    dead = re.sub(rf"-{os.getpid()}-\d+-", f"-{os.getpid()}-99999999999-", own.name)
    foreign = temporary / re.sub(pattern, replacement, dead)
    foreign.mkdir()
    (temporary / dead).mkdir()
    make_folder()
    assert foreign.is_dir() and not (temporary / dead).exists()


def test_a_number_that_another_process_has_by_now_does_not_keep_a_folder(temporary: Path) -> None:
    name = make_folder().name
    reused = temporary / re.sub(r"-\d+-(\w+)$", r"-1-\1", name)
    reused.mkdir()
    make_folder()
    assert not reused.exists()
