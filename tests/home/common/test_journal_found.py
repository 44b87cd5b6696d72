"""What a user had downloaded before a bundle was installed stays when the bundle goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bundler.home.common.journal import found_path
from bundler.home.installation import steps
from bundler.home.installation.install import install
from bundler.home.remove import remove
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle, tree

FILES = {"config.json": b'{"a": 1}', "model.safetensors": b"w" * 5000}
FOLDER = "hub/models--org--m"


def bundle_of(folder: Path, *, name: str = "tiny", commit: str = COMMIT, revision: str = "main") -> Path:
    folder.mkdir(exist_ok=True)
    files = FILES if commit == COMMIT else FILES | {"config.json": b'{"a": 2}'}
    repo = locked_repo("org/m", files, commit=commit, revision=revision, lfs=["model.safetensors"])
    return tiny_bundle(folder, repo, contents=files.values(), name=name)


def download(home: Path, bundle: Path) -> dict[str, str]:
    """Leave in `home` what a download of the same repo would; return what stands there."""
    install(bundle, home)
    shutil.rmtree(home / "bundles")
    shutil.rmtree(home / FOLDER / "refs" / "bundle")
    return content(home)


def content(home: Path) -> dict[str, str]:
    """Everything but the listings of commits, which clients write anew."""
    return {path: text for path, text in tree(home / "hub").items() if "/trees/" not in path}


def test_a_download_of_the_same_commit_stays_whole(tmp_path: Path) -> None:
    home, bundle = tmp_path / "home", bundle_of(tmp_path / "one")
    before = download(home, bundle)
    install(bundle, home)
    notes: list[str] = []
    assert remove("tiny", home, on_note=notes.append).freed_bytes == 0
    assert content(home) == before
    assert notes == ["left as before tiny was installed: 4 files"]
    assert tree(home / "bundles") == {}


def test_of_a_download_of_some_files_just_those_stay(tmp_path: Path) -> None:
    home, bundle = tmp_path / "home", bundle_of(tmp_path / "one")
    download(home, bundle)
    weights = home / FOLDER / "snapshots" / COMMIT / "model.safetensors"
    weights.resolve().unlink()
    weights.unlink()
    before = content(home)
    install(bundle, home)
    assert remove("tiny", home).freed_bytes == len(FILES["model.safetensors"])
    assert content(home) == before


def test_a_ref_that_was_moved_names_again_what_it_did(tmp_path: Path) -> None:
    home = tmp_path / "home"
    before = download(home, bundle_of(tmp_path / "old", commit=OTHER_COMMIT))
    install(bundle_of(tmp_path / "new"), home)
    assert (home / FOLDER / "refs/main").read_text() == COMMIT
    remove("tiny", home)
    assert (home / FOLDER / "refs/main").read_text() == OTHER_COMMIT
    assert content(home) == before


def test_an_upgrade_leaves_the_download_too(tmp_path: Path) -> None:
    home, old = tmp_path / "home", bundle_of(tmp_path / "old")
    before = download(home, old)
    install(old, home)
    install(bundle_of(tmp_path / "new", commit=OTHER_COMMIT), home)
    assert content(home).items() >= {path: text for path, text in before.items() if "/refs/" not in path}.items()
    remove("tiny", home)
    assert content(home) == before


def test_the_last_of_several_bundles_leaves_it_whichever_came_first(tmp_path: Path) -> None:
    home, first = tmp_path / "home", bundle_of(tmp_path / "one")
    before = download(home, first)
    install(first, home)
    install(bundle_of(tmp_path / "two", name="other"), home)
    remove("tiny", home)
    remove("other", home)
    assert content(home) == before
    assert tree(home / "bundles") == {}


def test_what_an_installation_that_was_killed_left_is_not_taken_for_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, bundle = tmp_path / "home", bundle_of(tmp_path / "one")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(steps, "write_receipt", killed)
        install(bundle, home)
    assert content(home)
    install(bundle, home)
    remove("tiny", home)
    assert tree(home) == {}


def test_an_installation_that_fails_leaves_no_record(tmp_path: Path) -> None:
    home, bundle = tmp_path / "home", bundle_of(tmp_path / "one")
    damaged = bytearray(bundle.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    bundle.write_bytes(damaged)
    with pytest.raises(Exception, match="tiny"):
        install(bundle, home)
    assert not found_path(home, "tiny").exists()
