"""What stands in the place of a receipt and is none is named; the bundle can be installed again, others go on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.remove import remove
from tests.files.test_access import without_privileges
from tests.support.bundles import OTHER_COMMIT, locked_repo, tiny_bundle, tree
from tests.support.users import make_open_folder

POINTER = "bundles/tiny.json"


def bundle_command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="bundle")


def pack(folder: Path, name: str, content: bytes, **more: str) -> Path:
    folder.mkdir(exist_ok=True)
    return tiny_bundle(folder, locked_repo(f"org/{name}", {"a": content}, **more), contents=[content], name=name)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("tiny", "other"):
        install(pack(tmp_path / "made", name, name.encode()), tmp_path / "home")
    return tmp_path / "home"


def _make_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_bytes(b"mine")


def _make_loop(path: Path) -> None:
    path.symlink_to(path.name)


PLACES = {
    "a folder": _make_folder,
    "a link that leads nowhere": _make_loop,
    "a link that leads nowhere at all": lambda path: path.symlink_to("nowhere"),
    "a pipe or a device": os.mkfifo,
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("where", ["pointer", "generation"])
def test_what_is_no_receipt_is_named_and_other_bundles_go_on(
    home: Path, tmp_path: Path, kind: str, where: str
) -> None:
    [generation] = (home / "bundles" / "generations" / "tiny").glob("*.json")
    path = home / POINTER if where == "pointer" else generation
    path.unlink()
    PLACES[kind](path)
    reason = f"{path}: expected a receipt, found {kind.removesuffix(' at all')}"
    listed = bundle_command("list", "--json", "--hf-home", home)
    assert listed.exit_code == 6
    assert reason in listed.output
    assert "other" in [one["name"] for one in json.loads(listed.stdout)["bundles"]]
    assert bundle_command("verify", "other", "--hf-home", home).exit_code == 0
    assert bundle_command("run", "--bundle", "other", "--hf-home", home, "--", "true").exit_code == 0
    assert bundle_command("path", "org/other", "--hf-home", home).exit_code == 0
    if where == "pointer":
        done = bundle_command("verify", "tiny", "--hf-home", home)
        assert (done.exit_code, reason in done.stderr) == (6, True)
    install(tmp_path / "made" / "tiny.tar.zst", home)
    assert Home(home).bundle("tiny").verify().ok
    assert [one.verify().ok for one in Home(home).generations("tiny")] == [True]
    if kind == "a folder":
        assert [file.read_bytes() for file in (home / "bundles" / "set-aside").rglob("mine")] == [b"mine"]


@pytest.mark.parametrize("kind", PLACES)
def test_a_bundle_with_something_in_place_of_its_receipt_can_be_removed(home: Path, kind: str) -> None:
    (home / POINTER).unlink()
    PLACES[kind](home / POINTER)
    remove("tiny", home)
    assert Home(home).all_names() == ["other"]
    assert not (home / "hub" / "models--org--tiny").exists()
    assert Home(home).bundle("other").verify().ok


def test_a_file_in_place_of_the_folder_of_generations_is_set_aside(home: Path, tmp_path: Path) -> None:
    folder = home / "bundles" / "generations" / "tiny"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_bytes(b"mine")
    install(tmp_path / "made" / "tiny.tar.zst", home)
    assert [one.digest for one in Home(home).generations("tiny")] == [Home(home).bundle("tiny").digest]


def test_a_folder_in_place_of_a_note_of_one_bundle_does_not_stop_another(home: Path, tmp_path: Path) -> None:
    for suffix in (".found", ".unfinished"):
        (home / f"bundles/tiny.json{suffix}").unlink(missing_ok=True)
        (home / f"bundles/tiny.json{suffix}").mkdir()
    third = pack(tmp_path / "made", "third", b"third")
    install(third, home)
    remove("other", home)
    assert bundle_command("list", "--hf-home", home).exit_code == 0


@pytest.mark.parametrize("action", ["install", "install an upgrade"])
def test_without_permission_to_write_a_conflict_of_names_is_not_the_reason(action: str) -> None:
    for place in make_open_folder():
        install(pack(place, "tiny", b"one"), place / "home")
        upgrade = pack(place / "b", "tiny", b"two", commit=OTHER_COMMIT)
        rival = tiny_bundle(
            place, locked_repo("org/tiny", {"a": b"two"}, commit=OTHER_COMMIT), contents=[b"two"], name="rival"
        )
        for folder in [place / "home", *(place / "home").rglob("*")]:
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o555)
        before = tree(place / "home")
        with without_privileges():
            done = bundle_command(
                "install", rival if action == "install" else upgrade, "--hf-home", place / "home"
            )
        assert done.exit_code == 18, done.stderr
        assert "Permission denied" in done.stderr
        assert tree(place / "home") == before
        for folder in [place / "home", *(place / "home").rglob("*")]:
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(0o755)
