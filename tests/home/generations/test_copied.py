"""A home with views that was copied without its links (`cp -rL`): every link is a copy, in the views too."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bundler.errors import IntegrityError
from bundler.home.generations.prune import prune
from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.remove import remove
from bundler.home.view.open import open_view
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle, tree

FILES = {"config.json": b"{}", "w": b"weights"}


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    """Two versions of a bundle, whose prepared files have one path, and one size, with other content."""
    made = []
    for commit in (COMMIT, OTHER_COMMIT):
        files = {**FILES, "version": commit.encode()}
        prepared = {"default/0.0.0/h/d.arrow": commit.encode(), "default/0.0.0/h/dataset_info.json": b"{}"}
        model = locked_repo("org/m", files, commit=commit, aliases=["m"], absent=["none"], lfs=["w"])
        data = locked_repo("org/d", {"d": b"d"}, kind="dataset", commit=commit, aliases=["d"], prepared=prepared)
        contents = [*files.values(), b"d", *prepared.values()]
        made.append(tiny_bundle(tmp_path / commit[0], model, data, contents=contents, name="demo"))
    return made


@pytest.fixture
def copied(bundles: list[Path], tmp_path: Path) -> Path:
    for bundle in bundles:
        install(bundle, tmp_path / "home")
    subprocess.run(["cp", "-rL", tmp_path / "home", tmp_path / "copied"], check=True)
    assert not any(path.is_symlink() for path in (tmp_path / "copied").rglob("*"))
    return tmp_path / "copied"


def check(home: Path) -> None:
    """The current generation verifies, and so does what a launch reads of it."""
    bundle = Home(home).bundle("demo")
    assert bundle.verify().faults == ()
    assert bundle.verify(view=open_view(home, [bundle])).faults == ()


def test_an_installation_makes_it_whole_and_a_second_one_finds_nothing_to_do(
    copied: Path, bundles: list[Path]
) -> None:
    assert not Home(copied).bundle("demo").verify().ok
    result = install(bundles[1], copied)
    assert (result.written_files, result.set_aside) == (0, ())
    check(copied)
    assert install(bundles[1], copied).was_complete


def test_a_rollback_there_and_back_makes_both_generations_whole(copied: Path) -> None:
    new, old = Home(copied).generations("demo")
    for bundle in (old, new, old):
        assert rollback("demo", copied, bundle.digest).bundle.digest == bundle.digest
        check(copied)
    assert not (copied / "bundles" / "set-aside").exists()


def test_a_rollback_to_the_current_one_makes_its_view_whole(copied: Path) -> None:
    rollback("demo", copied, Home(copied).bundle("demo").digest)
    check(copied)


def test_pruning_takes_nothing_of_the_current_one(copied: Path, bundles: list[Path]) -> None:
    install(bundles[1], copied)
    assert len(prune(copied).pruned) == 1
    check(copied)


def test_removing_it_leaves_nothing(copied: Path) -> None:
    remove("demo", copied)
    assert tree(copied) == {}


def test_what_datasets_computed_in_a_view_moves_into_the_new_one_and_a_strangers_file_is_set_aside(
    copied: Path, bundles: list[Path]
) -> None:
    view = Home(copied).bundle("demo").view
    computed = view / "datasets" / "org___d" / "default/0.0.0/h/cache-1.arrow"
    computed.write_bytes(b"computed")
    strange = view / "hub" / "models--org--m" / "snapshots" / OTHER_COMMIT / "chat_template.jinja"
    strange.write_bytes(b"strange")
    result = install(bundles[1], copied)
    check(copied)
    assert computed.read_bytes() == b"computed"
    assert [path for path, _ in result.set_aside] == [strange.relative_to(copied).as_posix()]
    assert (copied / result.set_aside[0][1]).read_bytes() == b"strange"


def test_a_view_whose_prepared_file_is_gone_everywhere_is_not_made_of_another_generations(copied: Path) -> None:
    new, old = Home(copied).generations("demo")
    (old.view / "datasets/org___d/default/0.0.0/h/d.arrow").unlink()
    before = tree(copied)
    with pytest.raises(IntegrityError):
        rollback("demo", copied)
    assert tree(copied) == before
    assert Home(copied).bundle("demo").digest == new.digest


def test_a_view_with_a_damaged_copy_of_a_prepared_file_is_mended(bundles: list[Path], tmp_path: Path) -> None:
    """Of equal size: only a hash tells. On a home with hard links the shared file is another one, and right."""
    home = tmp_path / "home"
    view = install(bundles[0], home).bundle.view
    place = view / "datasets/org___d/default/0.0.0/h/d.arrow"
    place.unlink()
    place.write_bytes(b"x" * 40)
    assert not install(bundles[0], home).was_complete
    check(home)
