"""A killed process's work folder is cleared, with the temporary folder that belongs to it, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bundler.files.owner import Owner
from bundler.make.staging.work import clear_work_folders, make_temporary_folder, make_work_folder

DIES = """
import os, signal, sys
from pathlib import Path
from bundler.make.staging.work import make_temporary_folder, make_work_folder

with make_work_folder(Path(sys.argv[1])) as work, make_temporary_folder(work) as temporary:
    (temporary / "closed").mkdir(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_both_folders_go_with_the_block(root: Path, temporary: Path) -> None:
    with make_work_folder(root) as work, make_temporary_folder(work) as short:
        assert short.parent == temporary and len(short.name) == len("b.") + 8
        (short / "file").write_text("x")
    assert list(root.iterdir()) == list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_and_a_living_one_s_stays(root: Path, temporary: Path) -> None:
    with make_work_folder(root) as work, make_temporary_folder(work) as short:
        done = subprocess.run([sys.executable, "-c", DIES, root], check=False)
        assert done.returncode == -9 and len(list(root.iterdir())) == len(list(temporary.iterdir())) == 2
        clear_work_folders(root)
        assert (list(root.iterdir()), list(temporary.iterdir())) == ([work], [short])


@pytest.mark.parametrize("name", ["b.open", "other"])
def test_a_folder_that_is_no_temporary_one_is_not_removed(root: Path, tmp_path: Path, name: str) -> None:
    kept = tmp_path / name
    kept.mkdir(0o755 if name == "b.open" else 0o700)
    dead = root / f"w.{Owner.current().system}-00000000-1-1-00000000"
    dead.mkdir()
    (dead / "temporary").symlink_to(kept)
    clear_work_folders(root)
    assert not dead.exists() and kept.is_dir()


def test_a_link_of_another_machine_is_not_followed(root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "b.12345678"
    kept.mkdir(0o700)
    foreign = root / "w.ffffffff-00000000-1-1-00000000"
    foreign.mkdir()
    (foreign / "temporary").symlink_to(kept)
    os.utime(foreign, (0, 0))
    clear_work_folders(root)
    assert not foreign.exists() and kept.is_dir()
