"""A home, or a folder in it, that is a link to another disk; and folders whose links have become text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.launches import find_launches, note_launch
from bundler.home.remove import remove
from bundler.home.view.open import open_view
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle

REPO = "hub/models--org--m"
ARROW = "default/0.0.0/h/d.arrow"


def make(folder: Path, content: bytes, commit: str = COMMIT) -> Path:
    repos = [
        locked_repo("org/m", {"w": content}, aliases=["m"], lfs=["w"], commit=commit),
        locked_repo("org/d", {"d": b"d"}, kind="dataset", aliases=["d"], prepared={ARROW: b"arrow"}),
    ]
    return tiny_bundle(folder, *repos, contents=[content, b"d", b"arrow"])


@pytest.mark.parametrize("linked", ["", "hub", REPO, f"{REPO}/blobs"])
def test_a_download_of_the_users_own_keeps_its_content_when_a_bundle_goes(tmp_path: Path, linked: str) -> None:
    home = tmp_path / "home"
    real = tmp_path / "disk" / "deep"
    real.mkdir(parents=True)
    (home / linked).parent.mkdir(parents=True, exist_ok=True)
    (home / linked).symlink_to(real)
    install(make(tmp_path / "made", b"w" * 9), home)
    ours = home / REPO / "snapshots" / COMMIT / "w"
    own = home / REPO / "snapshots" / OTHER_COMMIT / "w"
    own.parent.mkdir()
    own.symlink_to(ours.readlink())
    remove("tiny", home)
    assert own.read_bytes() == b"w" * 9


@pytest.mark.parametrize("linked", ["bundles", "bundles/views", "bundles/generations", "datasets", "hub", REPO])
def test_an_admins_link_to_another_disk_verifies_reads_and_rolls_back(tmp_path: Path, linked: str) -> None:
    home = tmp_path / "home"
    real = tmp_path / "disk" / "deep" / "er"
    real.mkdir(parents=True)
    (home / linked).parent.mkdir(parents=True, exist_ok=True)
    (home / linked).symlink_to(real)
    first = install(make(tmp_path / "1", b"1"), home).bundle
    assert first.verify().ok
    second = install(make(tmp_path / "2", b"2", OTHER_COMMIT), home).bundle
    for bundle, commit, content in ((first, COMMIT, b"1"), (second, OTHER_COMMIT, b"2")):
        root = open_view(home, [bundle]).root
        assert (root / REPO / "snapshots" / commit / "w").read_bytes() == content
    rollback("tiny", home)
    assert Home(home).bundle("tiny").verify().ok


@pytest.mark.parametrize(
    "path", ["datasets/d", "datasets/org___d", "hub/models--m", REPO, f"{REPO}/blobs", f"{REPO}/snapshots"]
)
def test_text_in_place_of_a_folder_is_set_aside_and_all_is_whole_again(tmp_path: Path, path: str) -> None:
    home, bundle = tmp_path / "home", make(tmp_path / "made", b"w")
    install(bundle, home)
    for _ in range(2):
        place = home / path
        shutil.rmtree(place) if not place.is_symlink() else place.unlink()
        place.write_text("elsewhere")
        result = install(bundle, home)
        assert result.bundle.verify().ok
        assert path in dict(result.set_aside)
    aside = [place for place in (home / "bundles" / "set-aside").rglob("*") if place.is_file()]
    assert sorted(place.read_text() for place in aside if place.read_text() == "elsewhere") == ["elsewhere"] * 2


def test_a_launch_whose_note_was_cut_off_is_taken_for_one_that_reads_everything(tmp_path: Path) -> None:
    home = tmp_path / "home"
    bundle = install(make(tmp_path / "made", b"w"), home).bundle
    with note_launch(home, [bundle]):
        [note] = (home / "bundles" / "launches").iterdir()
        for left in (b"", note.read_bytes()[:-5]):
            note.write_bytes(left)
            [launch] = find_launches(home)
            assert launch.reads(bundle)
    assert find_launches(home) == []
