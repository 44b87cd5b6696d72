"""A pointer that is lost or damaged, or was about to move when its command was killed: the generations are whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.errors import IntegrityError, NotInstalledError
from bundler.home.generations.prune import prune
from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.launches import note_launch
from bundler.home.remove import remove
from tests.home.generations.conftest import NEW_FILES
from tests.support.bundles import tree

POINTER = Path("bundles/demo.json")


def lose(home: Path, how: str) -> None:
    if how == "deleted":
        (home / POINTER).unlink()
    else:
        (home / POINTER).write_bytes(b"damaged")


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_a_rollback_by_digest_makes_a_generation_current_again(home: Path, how: str) -> None:
    before, [new, _] = tree(home), Home(home).generations("demo")
    lose(home, how)
    notes: list[str] = []
    result = rollback("demo", home, new.digest[:19], on_note=notes.append)
    assert (result.bundle.digest, result.before) == (new.digest, None)
    after = tree(home)
    aside = after.pop(f"bundles/set-aside/{POINTER}", None)
    assert after == before
    assert (aside is not None) == (how == "damaged") == bool(notes)
    assert Home(home).bundle("demo").verify().faults == ()


def test_without_a_digest_the_generations_are_named_and_nothing_moves(home: Path) -> None:
    lose(home, "deleted")
    before = tree(home)
    with pytest.raises(NotInstalledError) as caught:
        rollback("demo", home)
    assert all(bundle.digest[:19] in caught.value.message for bundle in Home(home).generations("demo"))
    lose(home, "damaged")
    with pytest.raises(IntegrityError):
        rollback("demo", home)
    (home / POINTER).unlink()
    assert tree(home) == before


def test_what_a_lost_pointer_leaves_is_not_pruned_and_both_ways_out_are_said(home: Path) -> None:
    lose(home, "deleted")
    before, notes = tree(home), list[str]()
    for dry_run in (True, False):
        assert prune(home, dry_run=dry_run, on_note=notes.append).pruned == ()
    assert tree(home) == before
    newest = Home(home).generations("demo")[0].digest
    assert all(
        f"`bundle rollback demo {newest[:19]}`" in note and "`bundle remove demo`" in note for note in notes
    )
    assert len(notes) == 2
    assert remove("demo", home).generations == 2
    assert tree(home) == {}


def test_what_a_removal_spared_for_a_launch_is_pruned_when_that_has_ended(home: Path) -> None:
    with note_launch(home, [Home(home).bundle("demo")]):
        remove("demo", home)
        assert len(prune(home).running) == 1
    assert len(prune(home).pruned) == 1
    assert tree(home) == {}


def test_a_removal_that_spared_something_can_be_taken_back(home: Path) -> None:
    current = Home(home).bundle("demo")
    with note_launch(home, [current]):
        remove("demo", home)
        rollback("demo", home, current.digest)
    assert prune(home).pruned == ()
    assert Home(home).bundle("demo").verify().faults == ()


def test_a_damaged_receipt_of_the_generation_is_written_again_before_the_pointer_leaves_it(home: Path) -> None:
    before, [new, _] = tree(home), Home(home).generations("demo")
    (home / "bundles" / "generations" / "demo" / f"{new.view.name}.json").write_bytes(b"damaged")
    rollback("demo", home)
    rollback("demo", home, new.digest)
    assert tree(home) == before


def test_whenever_an_upgrade_or_a_rollback_is_killed_the_next_command_of_another_bundle_finishes_it(
    tmp_path: Path,
) -> None:
    """What is prepared has one path in both generations: the names of the shared view follow the pointer."""
    # A kill at every second step; `make soak-home` has them all.
    argv = [sys.executable, "-m", "tests.home.generations.killed_moves", tmp_path, "2"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["install"]["moved"] and seen["rollback"]["moved"], "some kills left the shared view behind"


def test_after_an_installation_over_a_lost_pointer_all_is_as_before(home: Path, new: Path) -> None:
    before = tree(home)
    lose(home, "deleted")
    install(new, home)
    assert tree(home) == before
    folder = Home(home).bundle("demo").snapshot_path("m")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == NEW_FILES
