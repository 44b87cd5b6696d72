"""bundler.home.common.set_aside: what does not belong into a snapshot is moved, and the bundle verifies again."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.home.common.set_aside import move_aside
from bundler.home.generations.prune import prune
from bundler.home.installation.install import install
from tests.support.bundles import COMMIT, locked_repo, tiny_bundle, tree

FILES = {"config.json": b"{}", "sub/w.bin": b"weights"}
SNAPSHOT = f"hub/models--org--m/snapshots/{COMMIT}"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "made", locked_repo("org/m", FILES, aliases=["m"]), contents=FILES.values())


@pytest.fixture
def home(bundle: Path, tmp_path: Path) -> Path:
    install(bundle, tmp_path / "home")
    return tmp_path / "home"


def test_the_hint_of_verify_about_an_extra_file_is_a_step_that_works(bundle: Path, home: Path) -> None:
    def command(*words: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(main, [*(str(word) for word in words), "--hf-home", str(home)])
        return done.exit_code, done.stdout, done.stderr

    extra = home / SNAPSHOT / "additional_chat_templates" / "evil.jinja"
    extra.parent.mkdir()
    extra.write_text("template")
    code, _, told = command("verify", "tiny")
    assert code == 6
    assert "moves files that do not belong into a snapshot to bundles/set-aside" in told
    path = f"{SNAPSHOT}/additional_chat_templates/evil.jinja"
    code, out, told = command("install", bundle, "--json")
    assert code == 0
    assert f"note: {path} is of no bundle: moved to bundles/set-aside/{path}\n" in told
    assert json.loads(out)["set_aside"] == [{"path": path, "moved_to": f"bundles/set-aside/{path}"}]
    assert (home / "bundles" / "set-aside" / path).read_text() == "template"
    assert command("verify", "tiny")[0] == 0


def test_a_second_file_of_one_name_does_not_replace_the_first(bundle: Path, home: Path) -> None:
    for text in ("one", "two", "three"):
        (home / SNAPSHOT / "extra").write_text(text)
        install(bundle, home)
    folder = home / "bundles" / "set-aside" / SNAPSHOT
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "extra": "one",
        "extra.2": "two",
        "extra.3": "three",
    }


def test_a_link_to_a_blob_of_the_users_own_still_reaches_it(bundle: Path, home: Path) -> None:
    (home / "hub/models--org--m/blobs/own").write_bytes(b"own")
    (home / SNAPSHOT / "sub" / "own.bin").symlink_to("../../../blobs/own")
    result = install(bundle, home)
    assert (home / "bundles" / "set-aside" / SNAPSHOT / "sub" / "own.bin").read_bytes() == b"own"
    assert result.bundle.verify().ok


def test_what_another_bundle_ships_of_the_commit_stays(bundle: Path, home: Path, tmp_path: Path) -> None:
    files = {"vocab.txt": b"v"}
    other = tiny_bundle(tmp_path / "b", locked_repo("org/m", files), contents=files.values(), name="other")
    assert install(other, home).set_aside == ()
    assert install(bundle, home).set_aside == ()
    assert (home / SNAPSHOT / "vocab.txt").read_bytes() == b"v"


def test_what_an_upgrade_no_longer_ships_stays_for_a_rollback_and_is_not_set_aside(
    home: Path, tmp_path: Path
) -> None:
    files = {"config.json": b"{}"}
    result = install(
        tiny_bundle(tmp_path / "new", locked_repo("org/m", files, aliases=["m"]), contents=files.values()), home
    )
    assert result.set_aside == ()
    assert not (home / "bundles" / "set-aside").exists()
    assert (home / SNAPSHOT / "sub").exists()
    assert not (result.bundle.snapshot_path("m") / "sub").exists()
    prune(home)
    assert not (home / SNAPSHOT / "sub").exists()
    assert result.bundle.verify().faults == ()


def test_a_folder_in_the_place_of_a_file_makes_way(bundle: Path, home: Path) -> None:
    good = tree(home)
    (home / SNAPSHOT / "config.json").unlink()
    (home / SNAPSHOT / "config.json" / "deep").mkdir(parents=True)
    (home / SNAPSHOT / "config.json" / "deep" / "x").write_bytes(b"x")
    assert install(bundle, home).bundle.verify().ok
    assert {path: content for path, content in tree(home).items() if "set-aside" not in path} == good


def test_a_marker_that_hides_a_shipped_file_is_deleted(bundle: Path, home: Path) -> None:
    good = tree(home)
    marker = home / "hub/models--org--m/.no_exist" / COMMIT / "config.json"
    marker.parent.mkdir(parents=True)
    marker.touch()
    result = install(bundle, home)
    assert result.bundle.verify().ok
    assert tree(home) == good


@pytest.mark.parametrize("what", ["blobs/", "trees/"])
def test_a_folder_in_the_place_of_a_blob_or_a_listing_makes_way(bundle: Path, home: Path, what: str) -> None:
    good = tree(home)
    place = next(path for path in (home / "hub/models--org--m" / what).iterdir())
    place.unlink()
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "own").write_bytes(b"own")
    path = place.relative_to(home)
    result = install(bundle, home)
    assert result.set_aside == ((str(path), f"bundles/set-aside/{path}"),)
    assert (home / "bundles/set-aside" / path / "deep" / "own").read_bytes() == b"own"
    assert result.bundle.verify().ok
    assert {path: content for path, content in tree(home).items() if "set-aside" not in path} == good


def test_what_is_in_the_way_on_another_disk_is_carried_over(
    bundle: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An admin's `hub` may be a link to another disk: a rename does not go there."""

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))

    place = next((home / "hub/models--org--m/blobs").iterdir())
    place.unlink()
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "own").write_bytes(b"own")
    (home / SNAPSHOT / "extra").write_text("one")
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        moved = [move_aside(home, str(path.relative_to(home))) for path in (place, home / SNAPSHOT / "extra")]
    assert [os.path.lexists(path) for path in (place, home / SNAPSHOT / "extra")] == [False, False]
    assert (home / moved[0] / "deep" / "own").read_bytes() == b"own"
    assert (home / moved[1]).read_text() == "one"
    assert install(bundle, home).bundle.verify().ok
