"""Whose stamps a user believes: those of root and the home's owner, as far as a policy lets him, and of nobody else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from unittest import mock

import pytest

from bundler.home.generation import stamps_path
from bundler.home.home import Home
from tests.home.stamps.conftest import FILES, MODEL
from tests.support.users import ALICE, BOB, MALLORY, bundle_as, needs_root

pytestmark = needs_root
ALL = sum(map(len, FILES.values()))


def launch(uid: int, hf_home: Path, *options: object) -> dict[str, object]:
    """Launch as a user who has a folder of his own for stamps; return what the report says of the bundle."""
    state = hf_home.parent / f"state/{uid}"
    state.mkdir(exist_ok=True)
    os.chown(state, uid, uid)
    report = state / "report.json"
    words = ["run", "--hf-home", hf_home, "--isolate", "none", "--report", report, *options, "--", "true"]
    with mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(state)}):
        done = bundle_as(uid, *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(report.read_text())["bundles"][0]
    return found


def test_every_user_starts_without_hashing_what_root_has_installed(shared_home: Path) -> None:
    for user in (ALICE, BOB):
        found = launch(user, shared_home)
        assert (found["hashed_bytes"], found["stamped_bytes"], found["how"]) == (0, ALL, "stamped")


def test_a_user_remembers_what_he_has_hashed_himself(shared_home: Path) -> None:
    stamps_path(shared_home, "tiny", Home(shared_home).bundle("tiny").digest).unlink()
    make_old(shared_home)
    assert launch(ALICE, shared_home)["hashed_bytes"] == ALL
    assert launch(ALICE, shared_home)["hashed_bytes"] == 0
    assert launch(BOB, shared_home)["hashed_bytes"] == ALL, "nobody believes another user"


@pytest.mark.parametrize("owner", [ALICE, MALLORY])
def test_stamps_of_another_user_in_the_home_are_nobodys_but_his(shared_home: Path, owner: int) -> None:
    path = stamps_path(shared_home, "tiny", Home(shared_home).bundle("tiny").digest)
    os.chown(path, owner, owner)
    assert launch(BOB, shared_home)["hashed_bytes"] == ALL


def test_stamps_of_the_owner_of_the_home_are_believed(shared_home: Path) -> None:
    path = stamps_path(shared_home, "tiny", Home(shared_home).bundle("tiny").digest)
    os.chown(path, ALICE, ALICE)
    os.chown(shared_home, ALICE, ALICE)
    assert launch(BOB, shared_home)["hashed_bytes"] == 0


def test_a_home_that_moved_to_another_mount_is_not_hashed_again(shared_home: Path, place: Path) -> None:
    other = place / "other"
    view = Home(shared_home).bundle("tiny").view
    assert view.is_dir()
    shared_home.rename(other)
    shared_home.symlink_to(other)
    assert launch(ALICE, shared_home)["hashed_bytes"] == 0


@pytest.mark.parametrize(("says", "hashed"), [("home_stamps: true", 0), ("home_stamps: false", ALL), ("", ALL)])
def test_where_there_is_a_policy_it_has_to_say_so(shared_home: Path, place: Path, says: str, hashed: int) -> None:
    policy = place / "policy.yaml"
    policy.write_text(
        f"version: 1\nrules:\n  - bundles: ['*']\n    signature: optional\n    allow_pickle: true\n    {says}\n"
    )
    assert launch(ALICE, shared_home, "--policy", policy)["hashed_bytes"] == hashed
    # Root's own stamps are no other's.
    assert launch(0, shared_home, "--policy", policy)["hashed_bytes"] == 0


def test_a_user_finds_what_was_changed_in_the_shared_home(shared_home: Path) -> None:
    launch(ALICE, shared_home)
    blob = next(path for path in shared_home.glob("hub/*/blobs/*") if path.read_bytes() == MODEL)
    before = blob.stat()
    blob.write_bytes(b"WEIGHTS" * 100)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = bundle_as(ALICE, "run", "--hf-home", shared_home, "--isolate", "none", "--", "true")
    assert done.returncode == 6
    assert "expected blake3" in done.stderr


def test_a_copy_of_a_home_is_hashed_whatever_times_it_keeps(shared_home: Path, place: Path) -> None:
    shutil.copytree(shared_home, place / "copy", symlinks=True, copy_function=shutil.copy2)
    for folder in (place / "copy").glob("bundles/views/*/*/hub/*"):
        target = Path(str((folder / "blobs").readlink()).replace(str(shared_home), str(place / "copy")))
        (folder / "blobs").unlink()
        (folder / "blobs").symlink_to(target)
    assert launch(ALICE, place / "copy")["hashed_bytes"] == ALL


def make_old(home: Path) -> None:
    """Let two seconds go by since the last change, as a user needs it who cannot ask the home's file system."""
    import time

    newest = max(path.lstat().st_ctime for path in home.rglob("*"))
    time.sleep(max(0.0, newest + 2.05 - time.time()))
