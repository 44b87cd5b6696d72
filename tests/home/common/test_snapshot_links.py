"""bundler.home.common.snapshot_links: two texts of a link are right, and one that leads nowhere is not."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest

from bundler.home.common.publish import publish
from bundler.home.common.snapshot_links import SnapshotLinks
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.plan.layout import layout
from tests.support.bundles import COMMIT, lock_of, locked_repo, put_blobs, tiny_bundle

FILES = {"config.json": b"{}", "sub/w": b"weights"}
SNAPSHOT = f"hub/models--org--m/snapshots/{COMMIT}"


def place(home: Path, *aliases: str) -> SnapshotLinks:
    content = layout(lock_of(locked_repo("org/m", FILES, aliases=aliases)))
    put_blobs(home, content, FILES.values())
    publish(home, content, symlinks=True)
    return SnapshotLinks(home, content.repos[0])


def test_a_repo_with_another_name_has_its_own_name_in_its_links_and_others_have_the_library_s(
    tmp_path: Path,
) -> None:
    for folder, aliases, start in (("a", ["m"], "models--org--m/"), ("b", [], "")):
        place(tmp_path / folder, *aliases)
        target = str((tmp_path / folder / SNAPSHOT / "sub/w").readlink())
        assert target.startswith(f"{'../' * (4 if start else 3)}{start}blobs/")
        assert (tmp_path / folder / SNAPSHOT / "sub/w").read_bytes() == b"weights"


@pytest.mark.parametrize("first", [["m"], []])
def test_a_link_that_is_right_is_left_as_it_is(tmp_path: Path, first: list[str]) -> None:
    place(tmp_path, *first)
    # Reading it sets its time of access.
    state = attrgetter("st_ino", "st_mtime_ns", "st_ctime_ns")
    before = state((tmp_path / SNAPSHOT / "sub/w").lstat())
    links = place(tmp_path, *([] if first else ["m"]))
    assert state((tmp_path / SNAPSHOT / "sub/w").lstat()) == before
    target = str((tmp_path / SNAPSHOT / "sub/w").readlink())
    assert links.accepts(f"{SNAPSHOT}/sub/w", f"hub/models--org--m/blobs/{Path(target).name}", target)


def test_what_an_earlier_version_linked_verifies(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "made", locked_repo("org/m", FILES, aliases=["m"]), contents=FILES.values())
    home = tmp_path / "home"
    installed = install(bundle, home).bundle
    for root in (home, installed.view):
        for path in (root / SNAPSHOT).rglob("*"):
            if path.is_symlink():
                target = str(path.readlink()).replace("../models--org--m/", "")
                path.unlink()
                path.symlink_to(target)
    assert Home(home).bundle("tiny").verify().faults == ()
    assert install(bundle, home).was_complete


def test_in_a_folder_that_is_a_link_to_one_of_another_name_they_lead_to_blobs_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "disk" / "other").mkdir(parents=True)
    (home / "hub").mkdir(parents=True)
    (home / "hub/models--org--m").symlink_to(tmp_path / "disk" / "other")
    bundle = tiny_bundle(tmp_path / "made", locked_repo("org/m", FILES, aliases=["m"]), contents=FILES.values())
    installed = install(bundle, home).bundle
    assert installed.verify().faults == ()
    assert (home / SNAPSHOT / "sub/w").read_bytes() == b"weights"
    # As a home that was moved there would have it.
    link = home / SNAPSHOT / "sub/w"
    target = f"../../../../models--org--m/blobs/{link.readlink().name}"
    link.unlink()
    link.symlink_to(target)
    assert not link.exists()
    assert [fault.kind for fault in installed.verify().faults] == ["changed"]
