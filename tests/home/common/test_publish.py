"""bundler.home.common.publish: names for blobs that are in place, in an order that is safe to be killed in."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from bundler.files.links import link_or_copy
from bundler.home.common import publish as module
from bundler.home.common.publish import place_prepared, publish
from bundler.home.common.trees import merge_tree
from bundler.plan.layout import Layout, layout
from tests.support.bundles import COMMIT, lock_of, locked_file, locked_repo, put_blobs, tree

FILES = {"config.json": b"{}", "sub/w.bin": b"weights"}
REPO = "hub/models--org--m"
ARROW = {"default/0.0.0/h/d.arrow": b"arrow", "default/0.0.0/h/dataset_info.json": b"{}"}


def put_repo(hf_home: Path) -> Layout:
    content = layout(lock_of(locked_repo("org/m", FILES, aliases=["m"], absent=["none.json"])))
    put_blobs(hf_home, content, FILES.values())
    return content


def names(hf_home: Path) -> set[str]:
    """All but folders and blobs."""
    found = [path for path in hf_home.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {path.relative_to(hf_home).as_posix() for path in found if "blobs" not in path.parts}


@pytest.fixture(params=["symlinks", "hard links", "copies"])
def symlinks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system has symlinks; where it has none, it may lack hard links too."""
    if request.param == "copies":

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    return request.param == "symlinks"


def test_every_name_of_a_repo_is_made(tmp_path: Path, symlinks: bool) -> None:
    publish(tmp_path, put_repo(tmp_path), symlinks=symlinks)
    for name in ("models--org--m", "models--m"):
        folder = tmp_path / "hub" / name
        assert {path: (folder / "snapshots" / COMMIT / path).read_bytes() for path in FILES} == FILES
        assert (folder / "refs/main").read_bytes() == COMMIT.encode()
        assert (folder / ".no_exist" / COMMIT / "none.json").read_bytes() == b""
        assert set(json.loads((folder / "trees" / f"{COMMIT}.json").read_bytes())["files"]) == set(FILES)
    assert (tmp_path / "hub/models--m").is_symlink() is symlinks


def test_publishing_again_changes_nothing(tmp_path: Path, symlinks: bool) -> None:
    content = put_repo(tmp_path)
    publish(tmp_path, content, symlinks=symlinks)
    before = tree(tmp_path)
    snapshots = content.repos[0].snapshots
    located = {} if symlinks else {file.blob.path: tmp_path / file.path for file in snapshots}
    inodes = {path: path.lstat().st_ino for path in (tmp_path / REPO).rglob("*")}
    publish(tmp_path, content, symlinks=symlinks, located=located)
    assert tree(tmp_path) == before
    assert {path: path.lstat().st_ino for path in (tmp_path / REPO).rglob("*")} == inodes


def test_a_ref_appears_when_all_that_it_names_is_there(tmp_path: Path, symlinks: bool) -> None:
    seen: list[set[str]] = []
    publish(tmp_path, put_repo(tmp_path), symlinks=symlinks, on_step=lambda step: seen.append(names(tmp_path)))
    [before_refs] = seen
    assert before_refs == {
        *(f"{REPO}/snapshots/{COMMIT}/{path}" for path in FILES),
        f"{REPO}/trees/{COMMIT}.json",
        f"{REPO}/.no_exist/{COMMIT}/none.json",
    }


def test_a_folder_that_a_user_has_under_the_alias_is_filled_and_stays(tmp_path: Path) -> None:
    mine = tmp_path / "hub/models--m/snapshots/mine/notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    publish(tmp_path, put_repo(tmp_path), symlinks=True)
    assert mine.read_text() == "mine"
    assert (tmp_path / "hub/models--m/snapshots" / COMMIT / "config.json").read_bytes() == b"{}"


def test_a_listing_keeps_what_other_bundles_ship_and_what_a_user_has(tmp_path: Path) -> None:
    snapshot = tmp_path / REPO / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "mine.txt").write_text("mine")
    (snapshot / "theirs.txt").write_text("theirs")
    listing = tmp_path / REPO / "trees" / f"{COMMIT}.json"
    listing.parent.mkdir()
    entries = {name: {"size": 4, "blob_id": "0" * 40} for name in ("mine.txt", "gone.txt")}
    listing.write_text(json.dumps({"files": entries}))
    ours, theirs = locked_file("ours.txt", b"ours"), locked_file("theirs.txt", b"theirs")
    # Of an installation that was killed before it published.
    not_yet = locked_file("not-yet.txt", b"theirs")
    merged = merge_tree(tmp_path, REPO, COMMIT, [ours], {(REPO, COMMIT): [theirs, not_yet]})
    assert [file.path for file in merged] == ["mine.txt", "ours.txt", "theirs.txt"]
    listing.write_text("damaged")
    assert merge_tree(tmp_path, REPO, COMMIT, [ours], {}) == [ours]


def prepared(folder: Path) -> tuple[Layout, dict[str, Path]]:
    """A layout with a prepared dataset, and its files where they were verified."""
    content = layout(lock_of(locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared=ARROW)))
    folder.mkdir(parents=True)
    sources = {}
    for blob in content.repos[0].prepared:
        sources[blob.sha256] = folder / blob.sha256
        sources[blob.sha256].write_bytes(next(c for path, c in ARROW.items() if blob.path.endswith(path)))
    return content, sources


def test_a_prepared_dataset_appears_whole(tmp_path: Path) -> None:
    content, sources = prepared(tmp_path / "bundles/staging")
    place_prepared(tmp_path, content, sources)
    place_prepared(tmp_path, content, sources)
    place = tmp_path / "datasets/org___d"
    assert {path: (place / path).read_bytes() for path in ARROW} == ARROW
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["staging"]


def test_a_prepared_dataset_that_cannot_be_placed_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, sources = prepared(tmp_path / "bundles/staging")
    made: list[Path] = []

    def fill_up(source: Path, path: Path) -> None:
        if made:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        made.append(path)
        link_or_copy(source, path)

    monkeypatch.setattr(module, "link_or_copy", fill_up)
    with pytest.raises(OSError) as caught:
        place_prepared(tmp_path, content, sources)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "datasets").exists()
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["staging"]
