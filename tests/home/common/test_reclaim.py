"""bundler.home.common.reclaim: what only one bundle has goes; what others name, or a user, stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bundler.home.common.extras import list_files
from bundler.home.common.publish import publish
from bundler.home.common.reclaim import delete, link_targets, reclaim
from bundler.plan.layout import Layout, layout
from tests.support.bundles import COMMIT, OTHER_COMMIT, lock_of, locked_repo, put_blobs, tree

REPO = "hub/models--org--m"
SHARED, OURS, THEIRS = b"shared", b"only ours", b"only theirs"


def place(hf_home: Path, files: dict[str, bytes], *, symlinks: bool = True, **options: object) -> Layout:
    """Publish a repo as an installation does, and return its layout."""
    content = layout(lock_of(locked_repo("org/m", files, **options)))  # type: ignore[arg-type]
    put_blobs(hf_home, content, files.values())
    publish(hf_home, content, symlinks=symlinks)
    return content


@pytest.mark.parametrize("symlinks", [True, False])
def test_a_bundle_that_is_alone_leaves_nothing(tmp_path: Path, symlinks: bool) -> None:
    files = {"config.json": SHARED, "sub/w": OURS}
    gone = place(tmp_path, files, symlinks=symlinks, aliases=["m"], absent=["none.json"])
    freed = reclaim(tmp_path, gone, keep=[], current=[])
    assert tree(tmp_path) == {}
    assert [path.name for path in (tmp_path / "hub").iterdir()] == []
    assert freed >= len(SHARED) + len(OURS)


def test_what_another_bundle_names_stays_as_it_was(tmp_path: Path) -> None:
    kept = place(tmp_path, {"s": SHARED, "t": THEIRS}, revision="v1", commit=OTHER_COMMIT)
    before = tree(tmp_path)
    gone = place(tmp_path, {"s": SHARED, "o": OURS})
    assert reclaim(tmp_path, gone, keep=[kept], current=[kept]) == len(OURS)
    assert tree(tmp_path) == before


def test_of_one_commit_that_two_bundles_ship_in_part_the_other_part_stays(tmp_path: Path) -> None:
    kept = place(tmp_path, {"s": SHARED, "t": THEIRS})
    before = tree(tmp_path)
    gone = place(tmp_path, {"s": SHARED, "o": OURS})
    reclaim(tmp_path, gone, keep=[kept], current=[kept])
    assert tree(tmp_path) == before


def test_what_was_there_before_any_bundle_stays(tmp_path: Path) -> None:
    gone = place(tmp_path, {"s": SHARED, "o": OURS})
    blob = next(blob.path for blob in gone.blobs if blob.size_bytes == len(SHARED))
    stays = {blob, f"{REPO}/snapshots/{COMMIT}/s"}
    reclaim(tmp_path, gone, keep=[], current=[], stays=stays)
    assert stays <= set(tree(tmp_path)) <= stays | {f"{REPO}/trees/{COMMIT}.json"}


def test_content_that_a_user_s_own_snapshot_links_to_stays(tmp_path: Path) -> None:
    gone = place(tmp_path, {"s": SHARED, "o": OURS})
    [blob] = [blob.path for blob in gone.blobs if blob.size_bytes == len(SHARED)]
    mine = tmp_path / REPO / "snapshots" / OTHER_COMMIT / "mine"
    mine.parent.mkdir()
    mine.symlink_to(f"../../blobs/{Path(blob).name}")
    assert reclaim(tmp_path, gone, keep=[], current=[]) == len(OURS)
    assert set(tree(tmp_path)) == {blob, f"{REPO}/snapshots/{OTHER_COMMIT}/mine"}
    assert mine.read_bytes() == SHARED


def test_a_ref_that_says_something_else_by_now_stays(tmp_path: Path) -> None:
    gone = place(tmp_path, {"s": SHARED})
    ref = tmp_path / REPO / "refs/main"
    ref.write_text("e" * 40)
    reclaim(tmp_path, gone, keep=[], current=[])
    assert tree(tmp_path).keys() == {f"{REPO}/refs/main"}


def test_a_ref_that_another_bundle_needs_otherwise_is_given_to_it(tmp_path: Path) -> None:
    kept = place(tmp_path, {"t": THEIRS}, commit=OTHER_COMMIT)
    gone = place(tmp_path, {"o": OURS})
    assert (tmp_path / REPO / "refs/main").read_text() == COMMIT
    reclaim(tmp_path, gone, keep=[kept], current=[kept])
    assert (tmp_path / REPO / "refs/main").read_text() == OTHER_COMMIT


def test_a_ref_that_only_an_older_generation_of_another_bundle_has_goes(tmp_path: Path) -> None:
    kept = place(tmp_path, {"s": SHARED})
    gone = place(tmp_path, {"s": SHARED, "o": OURS})
    reclaim(tmp_path, gone, keep=[kept], current=[])
    assert not (tmp_path / REPO / "refs").exists()
    assert (tmp_path / REPO / "snapshots" / COMMIT / "s").read_bytes() == SHARED


def test_a_removal_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    gone = place(tmp_path, {"s": SHARED, "sub/o": OURS})
    for path in (tmp_path / REPO / "snapshots").rglob("*"):
        if path.is_symlink():
            path.unlink()
    assert reclaim(tmp_path, gone, keep=[], current=[]) == len(SHARED) + len(OURS)
    assert list((tmp_path / "hub").iterdir()) == []


def test_what_a_killed_process_left_half_written_goes_along_with_prepared_files_too(tmp_path: Path) -> None:
    prepared = {"default/0.0.0/h/d.arrow": b"arrow"}
    gone = layout(lock_of(locked_repo("org/d", {"d": b"d"}, kind="dataset", prepared=prepared)))
    put_blobs(tmp_path, gone, [b"d", b"arrow"])
    publish(tmp_path, gone, symlinks=True)
    code = "import pathlib, sys; from bundler.files.atomic import temporary_path as t; "
    code += "t(pathlib.Path(sys.argv[1])).touch()"
    for blob in gone.blobs:
        subprocess.run([sys.executable, "-c", code, (tmp_path / blob.path).parent], check=True)
    reclaim(tmp_path, gone, keep=[], current=[])
    assert tree(tmp_path) == {}


def test_deleting_takes_empty_folders_along_and_no_other(tmp_path: Path) -> None:
    for name in ("hub/a/b/c/x", "hub/a/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    assert delete(tmp_path, "hub/a/y", {"hub/a/y"}) == 0
    assert delete(tmp_path, "hub/a/b/c/x", set()) == 5
    assert tree(tmp_path).keys() == {"hub/a/y"}
    assert not (tmp_path / "hub/a/b").exists()
    assert delete(tmp_path, "hub/a/b/c/x", set()) == 0
    assert delete(tmp_path, "hub/a/y", set()) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_file_with_a_second_name_frees_nothing(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/x").write_bytes(b"12345")
    (tmp_path / "hub/y").hardlink_to(tmp_path / "hub/x")
    assert delete(tmp_path, "hub/x", set()) == 0
    assert delete(tmp_path, "hub/y", set()) == 5


def test_link_targets_are_those_of_links_at_every_depth(tmp_path: Path) -> None:
    (tmp_path / "snapshots/c/sub").mkdir(parents=True)
    (tmp_path / "snapshots/c/plain").touch()
    (tmp_path / "snapshots/c/a").symlink_to("../../blobs/1")
    (tmp_path / "snapshots/c/sub/b").symlink_to("../../../blobs/2")
    paths = [*list_files(tmp_path, "snapshots")]
    assert sorted(link_targets(tmp_path, paths)) == [f"{tmp_path}/blobs/1", f"{tmp_path}/blobs/2"]
    assert list(link_targets(tmp_path, ["none"])) == []
