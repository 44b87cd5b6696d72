"""bundler.home.generations.rollback: an older generation is the current one again, and nothing but names has moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.errors import NotInstalledError
from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.log import read_log
from tests.home.generations.conftest import NEW_FILES, OLD_FILES, REF
from tests.support.bundles import COMMIT, OTHER_COMMIT, tree


def read(home: Path) -> dict[str, bytes]:
    folder = Home(home).bundle("demo").snapshot_path("m")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_upgrade_keeps_the_generation_that_it_replaces(home: Path) -> None:
    new, old = Home(home).generations("demo")
    assert Home(home).bundle("demo").digest == new.digest != old.digest
    assert read(home) == NEW_FILES
    assert {path.name: path.read_bytes() for path in old.snapshot_path("m").iterdir()} == OLD_FILES
    assert new.verify().faults == ()


def test_without_a_digest_it_goes_to_the_one_before_and_with_one_forward_again(home: Path) -> None:
    new, old = Home(home).generations("demo")
    before = tree(home)
    result = rollback("demo", home)
    assert (result.bundle.digest, result.before.digest) == (old.digest, new.digest)
    assert read(home) == OLD_FILES
    assert (home / REF).read_text() == COMMIT
    assert Home(home).bundle("demo").verify().faults == ()
    rollback("demo", home, new.digest[:15])
    assert tree(home) == before
    assert (home / REF).read_text() == OTHER_COMMIT


def test_a_view_shows_what_it_did_whatever_is_current(home: Path) -> None:
    new, old = Home(home).generations("demo")
    views = {bundle.digest: tree(bundle.view) for bundle in (new, old)}
    rollback("demo", home)
    assert {bundle.digest: tree(bundle.view) for bundle in (new, old)} == views


@pytest.mark.parametrize(("digest", "found"), [(None, 0), ("ffffffff", 0), ("sha256:", 2)])
def test_what_names_no_one_generation_is_refused_and_nothing_moves(
    home: Path, digest: str | None, found: int
) -> None:
    rollback("demo", home)  # to the oldest
    before = tree(home)
    with pytest.raises(NotInstalledError) as caught:
        rollback("demo", home, digest)
    assert caught.value.exit_code == 9 and f"found {found}" in caught.value.message
    assert all(bundle.digest[:19] in caught.value.message for bundle in Home(home).generations("demo"))
    assert tree(home) == before


def test_a_rollback_to_the_current_one_is_nothing(home: Path) -> None:
    before, log = tree(home), read_log(home)
    current = Home(home).bundle("demo").digest
    assert rollback("demo", home, current).bundle.digest == current
    assert (tree(home), read_log(home)) == (before, log)


def test_the_command_says_what_is_current_and_what_was(home: Path) -> None:
    new, old = Home(home).generations("demo")
    done = CliRunner().invoke(main, ["rollback", "demo", "--hf-home", str(home), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"name": "demo", "digest": old.digest, "before": new.digest}
    assert done.stderr == f"demo is now {old.digest}\nit was {new.digest}, which stays\n"
    assert [(entry.action, entry.digest, entry.before) for entry in read_log(home)] == [
        ("install", old.digest, None),
        ("install", new.digest, old.digest),
        ("rollback", old.digest, new.digest),
    ]
