"""bundler.home.provision.make_room: what was launched longest ago goes, and only if that is enough."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.errors import SpaceError
from bundler.home.generation import generation_path, used_path
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from bundler.home.launches import note_launch
from bundler.home.provision.make_room import keep_below, make_room
from bundler.home.uses import note_use
from bundler.plan.layout import layout
from tests.support.bundles import COMMIT, OTHER_COMMIT, lock_of, locked_repo, tiny_bundle, tree


def use(bundle: InstalledBundle, seconds: float) -> None:
    """Let a bundle have been launched so long after the epoch."""
    note_use(bundle)
    os.utime(used_path(bundle.hf_home, bundle.name, bundle.digest), (seconds, seconds))


@pytest.fixture
def home(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A home with all three, of which b was launched longest ago, then c, then a."""
    for number, name in enumerate(["b", "c", "a"]):
        use(install(bundles[name], tmp_path / "home").bundle, 1000 + number)
    return tmp_path / "home"


def test_the_one_that_was_launched_longest_ago_goes_and_shared_content_counts_once(home: Path) -> None:
    # a and b take 1,600 together, c 1,000.
    assert keep_below(home, 2600).pruned == ()
    done = keep_below(home, 2599)
    assert [(one.bundle.name, one.freed_bytes) for one in done.pruned] == [("b", 600)]
    assert Home(home).names() == ["a", "c"]
    assert all(bundle.verify().ok for bundle in Home(home).bundles())
    assert [one.bundle.name for one in keep_below(home, 1999).pruned] == ["c"]
    assert keep_below(home, 0).freed_bytes == 1000
    assert Home(home).all_names() == []


def test_a_dry_run_says_the_same_and_deletes_nothing(home: Path) -> None:
    before = tree(home)
    said = keep_below(home, 1000, dry_run=True)
    assert tree(home) == before
    done = keep_below(home, 1000)
    told = [[(one.bundle.digest, one.freed_bytes) for one in result.pruned] for result in (said, done)]
    assert told[0] == told[1]
    assert [digest for digest, _ in told[0]] != []


def test_one_that_was_never_launched_counts_from_its_installation(home: Path, tmp_path: Path) -> None:
    new = tiny_bundle(tmp_path / "new", locked_repo("org/new", {"w": b"new"}), contents=[b"new"], name="new")
    digest = install(new, home).bundle.digest
    assert [one.bundle.name for one in keep_below(home, 2600).pruned] == ["b"]
    os.utime(generation_path(home, "new", digest), (1, 1))
    assert [one.bundle.name for one in keep_below(home, 2000).pruned] == ["new"]


def test_what_a_launch_reads_stays_and_the_next_one_goes(home: Path) -> None:
    with note_launch(home, [Home(home).bundle("b")]):
        done = keep_below(home, 2000)
    assert [one.bundle.name for one in done.pruned] == ["c"]
    assert [bundle.name for bundle, _ in done.running] == ["b"]


def test_nothing_is_deleted_where_that_would_not_be_enough(home: Path) -> None:
    before = tree(home)
    with note_launch(home, [Home(home).bundle("b")]), pytest.raises(SpaceError) as caught:
        keep_below(home, 999)
    assert caught.value.message.endswith("what launches read there take 1 kB; nothing was deleted")
    incoming = layout(lock_of(locked_repo("org/new", {"w": b"n" * 500}), name="new"))
    with pytest.raises(SpaceError, match="what this launch needs and what launches read there take 500 B"):
        make_room(home, 499, incoming=[incoming])
    assert {path: value for path, value in tree(home).items() if "launches" not in path} == before


def test_room_is_made_for_what_comes_and_content_that_is_there_already_costs_nothing(
    home: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    base = locked_repo("org/base", {"base": b"s" * 400})
    assert make_room(home, 2600, incoming=[layout(lock_of(base, name="new"))]).pruned == ()
    more = locked_repo("org/more", {"w": b"m" * 100})
    done = make_room(home, 2600, incoming=[layout(lock_of(base, more, name="new"))])
    assert [one.bundle.name for one in done.pruned] == ["b"]


def test_an_older_generation_that_was_launched_later_becomes_the_current_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    old, new = (
        install(
            tiny_bundle(
                tmp_path / commit,
                locked_repo("org/m", {"w": content}, commit=commit),
                contents=[content],
                name="demo",
            ),
            home,
        ).bundle
        for commit, content in ((COMMIT, b"o" * 500), (OTHER_COMMIT, b"n" * 500))
    )
    use(old, 2000)
    use(new, 1000)
    notes: list[str] = []
    done = keep_below(home, 500, on_note=notes.append)
    assert [one.bundle.digest for one in done.pruned] == [new.digest]
    assert Home(home).bundle("demo").digest == old.digest
    assert Home(home).bundle("demo").verify().ok
    assert f"{old.digest[:19]} is the current generation of demo now: it was launched last" in notes
    assert not used_path(home, "demo", new.digest).exists()


def test_prune_has_it_as_an_option_which_goes_with_no_other(home: Path) -> None:
    def command(*words: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(main, ["prune", *map(str, words), "--hf-home", str(home)])
        return done.exit_code, done.stdout, done.stderr

    assert command("--keep-below", "1M", "--keep", 1)[0] == command("--keep-below", "1M", "a")[0] == 2
    code, out, told = command("--keep-below", "2kB", "--json")
    assert code == 0, told
    assert [one["name"] for one in json.loads(out)["pruned"]] == ["b"]
    assert "deleted 1 generation, 600 B" in told
