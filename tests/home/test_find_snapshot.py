"""Which installed bundle has a repo."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.errors import BundleError, IntegrityError, NotInstalledError
from bundler.home.find_snapshot import find_snapshot
from bundler.home.home import Home
from bundler.home.installation.install import install
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle

CONTENTS = {"config.json": b"{}"}


def add(home: Path, name: str, repo_id: str, *, commit: str = COMMIT, revision: str = "main") -> None:
    repo = locked_repo(repo_id, CONTENTS, aliases=["short"], commit=commit, revision=revision)
    (home.parent / name).mkdir()
    install(tiny_bundle(home.parent / name, repo, contents=CONTENTS.values(), name=name), home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf-home"


def refuse(error: BundleError) -> None:
    pytest.fail(f"nothing is damaged: {error}")


def test_an_id_and_an_alias_lead_to_the_same_folder(home: Path) -> None:
    add(home, "one", "org/m")
    for name in ("org/m", "short"):
        bundle, folder = find_snapshot(Home(home), name, on_damage=refuse)
        assert (bundle.name, folder) == ("one", bundle.view / "hub" / "models--org--m" / "snapshots" / COMMIT)


def test_two_commits_of_one_repo_have_to_be_chosen_between(home: Path) -> None:
    add(home, "one", "org/m")
    add(home, "two", "org/m", commit=OTHER_COMMIT, revision="dev")
    with pytest.raises(NotInstalledError):
        find_snapshot(Home(home), "org/m", on_damage=refuse)
    bundle, folder = find_snapshot(Home(home), "org/m", name="two", on_damage=refuse)
    assert (bundle.name, folder.name) == ("two", OTHER_COMMIT)


def test_what_is_not_there_is_refused_with_the_bundle_that_has_it_otherwise(home: Path) -> None:
    with pytest.raises(NotInstalledError):
        find_snapshot(Home(home), "org/m", on_damage=refuse)
    add(home, "one", "org/m")
    with pytest.raises(NotInstalledError) as other_type:
        find_snapshot(Home(home), "org/m", "dataset", on_damage=refuse)
    assert other_type.value.hint == "bundle path org/m"


def test_a_damaged_receipt_is_an_error_only_where_it_may_be_the_one(home: Path) -> None:
    add(home, "one", "org/m")
    (home / "bundles" / "broken.json").write_text("{}")
    damaged: list[BundleError] = []
    bundle, _ = find_snapshot(Home(home), "org/m", on_damage=damaged.append)
    assert bundle.name == "one" and len(damaged) == 1
    with pytest.raises(IntegrityError):
        find_snapshot(Home(home), "org/other", on_damage=damaged.append)
