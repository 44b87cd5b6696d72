"""bundler.home.launches: who reads which generation is known while it lasts, and no longer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from bundler.home.launches import LAUNCHES_FOLDER, PATIENCE_SECONDS, find_launches, note_launch, write_note
from tests.support.bundles import locked_repo, tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> InstalledBundle:
    return install(
        tiny_bundle(tmp_path, locked_repo("org/m", {"a": b"a"}), contents=[b"a"]), tmp_path / "home"
    ).bundle


def test_a_launch_is_known_while_the_block_runs(bundle: InstalledBundle) -> None:
    with note_launch(bundle.hf_home, [bundle]):
        [launch] = find_launches(bundle.hf_home)
        assert (launch.pid, launch.generations) == (os.getpid(), (("tiny", bundle.digest),))
    assert find_launches(bundle.hf_home) == []
    assert list((bundle.hf_home / LAUNCHES_FOLDER).iterdir()) == []


def test_the_note_of_a_process_that_was_killed_is_deleted(bundle: InstalledBundle) -> None:
    code = """
import os, pathlib, signal, sys
from bundler.home.home import Home
from bundler.home.launches import write_note
home = pathlib.Path(sys.argv[1])
write_note(home, Home(home).bundles())
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, bundle.hf_home], check=False)
    assert len(list((bundle.hf_home / LAUNCHES_FOLDER).iterdir())) == 1
    assert find_launches(bundle.hf_home) == []
    assert list((bundle.hf_home / LAUNCHES_FOLDER).iterdir()) == []


def test_the_note_of_another_machine_counts_for_as_long_as_a_job_may_run(bundle: InstalledBundle) -> None:
    path = write_note(bundle.hf_home, [bundle])
    assert path is not None
    mark, _, rest = path.name.partition("-")
    other = path.rename(path.with_name(f"{int(mark, 16) ^ 1:08x}-{rest}"))
    assert len(find_launches(bundle.hf_home)) == 1
    old = other.stat().st_mtime - PATIENCE_SECONDS - 1
    os.utime(other, (old, old))
    assert find_launches(bundle.hf_home) == []


@pytest.mark.parametrize(
    "text", ["", "{", '{"host": 1}', "[1]", json.dumps({"host": "h", "pid": "x", "generations": []}), "[" * 99999]
)
def test_a_note_that_cannot_be_read_is_that_of_a_launch_which_may_read_anything(
    bundle: InstalledBundle, text: str
) -> None:
    path = write_note(bundle.hf_home, [bundle])
    assert path is not None
    path.write_text(text)
    # Being written, or cut off by a full disk: its process is there, by the mark in the name.
    [launch] = find_launches(bundle.hf_home)
    assert launch.reads(bundle)
    assert path.exists()


def test_what_has_no_mark_of_a_process_is_passed_over_and_left(bundle: InstalledBundle) -> None:
    path = write_note(bundle.hf_home, [bundle])
    assert path is not None
    other = path.rename(path.with_name("notes.json"))
    assert find_launches(bundle.hf_home) == []
    assert other.exists()


def test_a_link_among_the_notes_is_not_followed(bundle: InstalledBundle, tmp_path: Path) -> None:
    path = write_note(bundle.hf_home, [bundle])
    assert path is not None
    path.rename(tmp_path / "note")
    path.symlink_to(tmp_path / "note")
    assert find_launches(bundle.hf_home) == []
    assert (tmp_path / "note").exists()


def test_where_nothing_can_be_written_there_is_no_note_and_no_error(bundle: InstalledBundle) -> None:
    (bundle.hf_home / LAUNCHES_FOLDER).rmdir()
    (bundle.hf_home / LAUNCHES_FOLDER).write_text("a file in its place")
    with note_launch(bundle.hf_home, Home(bundle.hf_home).bundles()) as is_noted:
        assert not is_noted
