"""bundler.home.generations.prune: what is not current goes, but for what a launch reads."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.errors import IntegrityError
from bundler.home.generation import generation_path
from bundler.home.generations.prune import prune
from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.launches import LAUNCHES_FOLDER, RunningLaunch, note_installed, note_launch
from bundler.home.receipt import REMOVING_SUFFIX
from bundler.home.remove import remove
from bundler.home.view.open import open_view
from tests.home.generations.conftest import NEW_FILES, OLD_FILES
from tests.support.bundles import tree


def test_what_only_the_old_generation_had_is_freed_and_the_current_one_is_as_if_alone(
    home: Path, new: Path, tmp_path: Path
) -> None:
    result = prune(home)
    assert result.freed_bytes == len(OLD_FILES["w"])
    assert Home(home).bundle("demo").verify().faults == ()
    install(new, tmp_path / "alone")
    trees = [tree(home), tree(tmp_path / "alone")]
    for one in trees:
        del one["bundles/demo.json.found"]  # which commits were ever looked at
    assert trees[0] == trees[1]


def test_a_dry_run_says_the_same_and_deletes_nothing(home: Path) -> None:
    before = tree(home)
    said = prune(home, dry_run=True)
    assert tree(home) == before
    done = prune(home)
    assert [(one.bundle.digest, one.freed_bytes) for one in said.pruned] == [
        (one.bundle.digest, one.freed_bytes) for one in done.pruned
    ]


def test_the_newest_are_kept_where_that_is_asked_for_and_the_recent_ones(home: Path) -> None:
    before = tree(home)
    assert prune(home, keep=1).pruned == ()
    assert prune(home, older_than=datetime.timedelta(hours=1)).pruned == ()
    assert tree(home) == before
    assert len(prune(home, older_than=datetime.timedelta()).pruned) == 1


def test_after_a_rollback_it_is_the_newer_one_that_goes(home: Path) -> None:
    new, old = Home(home).generations("demo")
    rollback("demo", home)
    assert [one.bundle.digest for one in prune(home).pruned] == [new.digest]
    assert Home(home).bundle("demo").verify().faults == ()
    assert [bundle.digest for bundle in Home(home).generations("demo")] == [old.digest]


def test_what_a_launch_of_this_process_reads_stays(home: Path) -> None:
    [_, old] = Home(home).generations("demo")
    with note_launch(home, [old]) as is_noted:
        assert is_noted
        result = prune(home)
        assert (result.pruned, [bundle.digest for bundle, _ in result.running]) == ((), [old.digest])
        assert old.verify(view=open_view(home, [old])).faults == ()
    assert len(prune(home).pruned) == 1


@pytest.fixture
def reading(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A `bundle run` on the old generation that goes on until its standard input ends."""
    old = Home(home).generations("demo")[1].digest
    rollback("demo", home, old)
    bundle = str(Path(sys.executable).with_name("bundle"))
    code = "import os,sys; print(os.environ['HF_HUB_CACHE'], flush=True); sys.stdin.read()"
    argv = [
        bundle,
        "run",
        "--bundle",
        "demo",
        "--isolate",
        "none",
        "--hf-home",
        str(home),
        "--",
        sys.executable,
        "-c",
        code,
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_job_reads_what_it_started_with_through_an_upgrade_a_removal_and_a_prune(
    home: Path, new: Path, reading: subprocess.Popen[str]
) -> None:
    assert reading.stdout is not None
    hub = Path(reading.stdout.readline().strip())
    [snapshot] = (hub / "models--org--m" / "snapshots").iterdir()

    def read() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in snapshot.iterdir()}

    assert read() == OLD_FILES
    install(new, home)
    assert read() == OLD_FILES
    assert len(prune(home).running) == 1
    assert read() == OLD_FILES
    removed = remove("demo", home)
    assert len(removed.running) == 1
    assert read() == OLD_FILES
    assert Home(home).names() == []
    reading.communicate("")
    assert len(prune(home).pruned) == 1
    assert {name for name in tree(home) if not name.startswith("bundles/launches")} == set()


def test_beside_a_damaged_receipt_nothing_is_deleted(home: Path) -> None:
    [_, old] = Home(home).generations("demo")
    path = home / "bundles" / "generations" / "demo" / f"{old.view.name}.json"
    path.write_bytes(b"damaged")
    before = tree(home)
    with pytest.raises(IntegrityError):
        prune(home)
    assert tree(home) == before


def test_the_command_says_what_it_frees(home: Path) -> None:
    [_, old] = Home(home).generations("demo")
    done = CliRunner().invoke(main, ["prune", "--hf-home", str(home), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "dry_run": False,
        "pruned": [{"name": "demo", "digest": old.digest, "freed_bytes": len(OLD_FILES["w"])}],
        "running": [],
        "freed_bytes": len(OLD_FILES["w"]),
    }
    assert done.stderr == f"deleted demo {old.digest[:19]}: 11 B\ndeleted 1 generation, 11 B\n"


@pytest.mark.parametrize("age", ["soon", "-1d", "1y", ""])
def test_an_age_that_is_none_is_wrong_usage(home: Path, age: str) -> None:
    before = tree(home)
    assert CliRunner().invoke(main, ["prune", "--hf-home", str(home), "--older-than", age]).exit_code == 2
    assert tree(home) == before


def test_new_files_are_as_they_were(home: Path) -> None:
    prune(home)
    folder = Home(home).bundle("demo").snapshot_path("m")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == NEW_FILES


def test_a_launch_that_notes_itself_too_late_opens_what_is_there_now(old: Path, new: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(old, home)
    opened = Home(home).bundles(parse=False)
    install(new, home)
    assert len(prune(home).pruned) == 1
    [bundle], note = note_installed(home, opened, lambda: Home(home).bundles(parse=False))
    assert (bundle.digest, note is not None) == (Home(home).bundle("demo").digest, True)
    assert [*(home / LAUNCHES_FOLDER).iterdir()] == [note]
    assert bundle.verify(view=open_view(home, [bundle])).ok


def look_too_early(hf_home: Path) -> list[RunningLaunch]:
    """What is seen by one who looks for launches before one notes itself."""
    return []


def test_a_launch_that_notes_itself_while_a_prune_begins_keeps_its_generation(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [_, old] = Home(home).generations("demo")
    before = tree(home)
    monkeypatch.setattr("bundler.home.generations.prune.find_launches", look_too_early)
    with note_launch(home, [old]):
        result = prune(home)
        assert (result.pruned, [bundle.digest for bundle, _ in result.running]) == ((), [old.digest])
    assert tree(home) == before


def test_a_launch_that_notes_itself_while_a_removal_begins_keeps_its_generation(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [new, _] = Home(home).generations("demo")
    monkeypatch.setattr("bundler.home.remove.find_launches", look_too_early)
    with note_launch(home, [new]):
        result = remove("demo", home)
        assert [bundle.digest for bundle, _ in result.running] == [new.digest]
        assert new.verify(view=open_view(home, [new])).ok
    assert len(prune(home).pruned) == 1


def test_what_a_killed_prune_had_hidden_from_a_launch_is_shown_again(home: Path) -> None:
    [_, old] = Home(home).generations("demo")
    before = tree(home)
    path = generation_path(home, "demo", old.digest)
    path.rename(path.with_name(path.name + REMOVING_SUFFIX))
    with note_launch(home, [old]):
        assert prune(home).pruned == ()
    assert tree(home) == before
