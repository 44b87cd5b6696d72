"""What prune and remove say that they free is what is free afterwards: each file once, and only with its last name."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.home.generation import generation_path, view_path
from bundler.home.generations.prune import prune
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.receipt import REMOVING_SUFFIX
from bundler.home.remove import remove
from bundler.plan.lock import LockedRepo
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle, tree

PREPARED = "default/0.0.0/h/d.arrow"
TWICE = b"the same rows in two datasets"
OLD_ROWS, NEW_ROWS = b"old rows", b"new rows, and more of them"
NAMES = ("refs", "trees", ".no_exist", "generations", "launches")


def held_bytes(home: Path) -> int:
    """The length of all content in a home, and of what a user has beside it, each file once."""
    found = {path.stat().st_ino: path.stat().st_size for path in home.parent.glob("mine*")}
    for folder, folders, names in os.walk(home):
        folders[:] = [name for name in folders if name not in NAMES]
        if Path(folder) == home / "bundles":
            continue
        for name in names:
            status = os.lstat(f"{folder}/{name}")
            if stat.S_ISREG(status.st_mode):
                found[status.st_ino] = status.st_size
    return sum(found.values())


def make_repos(rows: bytes, commit: str) -> list[LockedRepo]:
    return [
        locked_repo("org/d", {"d": b"d"}, kind="dataset", commit=commit, prepared={PREPARED: rows}),
        locked_repo("org/e", {"e": b"e"}, kind="dataset", commit=commit, prepared={PREPARED: rows + TWICE}),
        locked_repo("org/f", {"f": b"f"}, kind="dataset", commit=commit, prepared={PREPARED: rows + TWICE}),
        locked_repo("org/m", {"w": b"weights of " + rows, "s": b"same"}, commit=commit, aliases=["m"]),
    ]


@pytest.fixture(params=["symlinks", "hard links"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two generations of `demo`; prepared files of two datasets are one file with several names."""
    if request.param == "hard links":

        def refuse(*arguments: object, **options: object) -> None:
            raise PermissionError

        monkeypatch.setattr(Path, "symlink_to", refuse)
    home = tmp_path / "home"
    for rows, commit in ((OLD_ROWS, COMMIT), (NEW_ROWS, OTHER_COMMIT)):
        contents = [b"d", b"e", b"f", b"same", b"weights of " + rows, rows, rows + TWICE]
        # Without views two generations cannot have other rows at one path.
        repos = make_repos(rows, commit)[0 if request.param == "symlinks" else 3 :]
        install(tiny_bundle(tmp_path / rows.decode(), *repos, contents=contents, name="demo"), home)
    return home


def leave_it(home: Path) -> None:
    """Nothing else is there."""


def link_elsewhere(home: Path) -> None:
    """A user has a second name of an old blob, outside of every bundle."""
    for number, path in enumerate(home.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.read_bytes() in (b"weights of old rows", OLD_ROWS):
            (home.parent / f"mine{number}").hardlink_to(path)


def link_from_own_snapshot(home: Path) -> None:
    """A user's own snapshot uses an old blob."""
    [blob] = [p for p in (home / "hub/models--org--m/blobs").iterdir() if p.read_bytes() == b"weights of old rows"]
    mine = home / "hub/models--org--m/snapshots" / ("e" * 40) / "mine"
    mine.parent.mkdir()
    os.symlink(f"../../blobs/{blob.name}", mine)  # noqa: PTH211 -- `Path` may be told to refuse


def compute_something(home: Path) -> None:
    """`datasets` has kept a result beside the prepared files of the old generation."""
    old = Home(home).generations("demo")[1]
    if old.has_view:
        (old.view / "datasets/org___d/default/0.0.0/h/cache-1.arrow").write_bytes(b"computed of old rows")


def kill_a_retirement(home: Path) -> None:
    """A prune was killed when it had hidden the receipt."""
    path = generation_path(home, "demo", Home(home).generations("demo")[1].digest)
    path.rename(path.with_name(path.name + REMOVING_SUFFIX))


STATES = [leave_it, link_elsewhere, link_from_own_snapshot, compute_something, kill_a_retirement]


@pytest.mark.parametrize("change", STATES)
def test_a_prune_frees_what_it_says_and_a_dry_run_says_the_same(
    home: Path, change: Callable[[Path], None]
) -> None:
    change(home)
    before, names = held_bytes(home), tree(home)
    said = prune(home, dry_run=True)
    assert tree(home) == names
    done = prune(home)
    assert done.freed_bytes == before - held_bytes(home)
    assert said.freed_bytes == done.freed_bytes
    assert [one.freed_bytes for one in said.pruned] == [one.freed_bytes for one in done.pruned]
    assert Home(home).bundle("demo").verify().ok


@pytest.mark.parametrize("change", STATES)
def test_a_removal_frees_what_it_says(home: Path, change: Callable[[Path], None]) -> None:
    change(home)
    before = held_bytes(home)
    assert remove("demo", home).freed_bytes == before - held_bytes(home)


def test_rows_that_another_generation_has_other_at_their_path_are_freed(home: Path) -> None:
    if Home(home).bundle("demo").has_view:
        old = len(OLD_ROWS) + len(OLD_ROWS + TWICE) + len(b"weights of old rows")
        assert prune(home, dry_run=True).freed_bytes == old
        view = view_path(home, "demo", Home(home).generations("demo")[1].digest)
        assert (view / "datasets/org___e" / PREPARED).samefile(view / "datasets/org___f" / PREPARED)


def test_the_command_says_the_same_in_text_and_json(home: Path) -> None:
    words = ["prune", "--hf-home", str(home), "--json"]
    before = held_bytes(home)
    said, done = (CliRunner().invoke(main, [*words, *more]) for more in (["--dry-run"], []))
    freed = before - held_bytes(home)
    assert [json.loads(one.stdout)["freed_bytes"] for one in (said, done)] == [freed, freed]
    assert f"would delete 1 generation, {freed} B" in said.stderr
    assert f"deleted 1 generation, {freed} B" in done.stderr
