"""What past releases wrote, every later version reads: bundles, locks, and an HF_HOME with its receipt.

Only commands are used, and contents are compared with what the release's own lock says, read as plain JSON: these tests
stay as they are when everything inside changes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundler import __version__
from bundler.cli import main
from bundler.plan.lockfile import read_lock
from tests.format.spec_reader import extract
from tests.releases import make
from tests.support.bundles import read_content, tree

RELEASES = sorted(path for path in make.HERE.iterdir() if (path / "release.json").exists())


def bundle_command(*words: object) -> str:
    """Run a command that must succeed, and return what it wrote to stdout."""
    done = CliRunner().invoke(main, [str(word) for word in words], prog_name="bundle")
    assert done.exit_code == 0, done.stderr
    return done.stdout


def digests(release: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((release / "release.json").read_text())["digests"]
    return found


def assert_home_is_as_locked(home: Path, lock_file: Path) -> None:
    """Compare every file of the bundle in an HF_HOME with its SHA-256 in the lock."""
    lock: dict[str, Any] = json.loads(lock_file.read_text())
    for repo in lock["repos"]:
        folder = home / "hub" / f"{repo['kind']}s--{repo['repo_id'].replace('/', '--')}"
        assert (folder / "refs" / repo["revision"]).read_text() == repo["commit"]
        snapshot = folder / "snapshots" / repo["commit"]
        found = {
            name: hashlib.sha256(snapshot.joinpath(name).read_bytes()).hexdigest() for name in files_of(snapshot)
        }
        assert found == {file["path"]: file["sha256"] for file in repo["files"]}
        for alias in repo["aliases"]:
            assert (home / "hub" / f"{repo['kind']}s--{alias}").resolve() == folder.resolve()
        for file in repo.get("prepared", []):
            prepared = home / "datasets" / repo["repo_id"].replace("/", "___").lower() / file["path"]
            assert hashlib.sha256(prepared.read_bytes()).hexdigest() == file["sha256"]


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def home(release: Path, tmp_path: Path) -> Path:
    """An HF_HOME as the release left it, made from its description and from the contents of its bundle."""
    extract(release / "auto.tar.zst", tmp_path / "extracted")
    contents = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path.read_bytes()
        for path in (tmp_path / "extracted").rglob("*")
        if path.is_file()
    }
    home = tmp_path / "home"
    for name, what in json.loads((release / "home.json").read_text()).items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "link" in what:
            path.symlink_to(what["link"])
        elif "text" in what:
            path.write_text(what["text"])
        else:
            path.write_bytes(contents[what["sha256"]])
    return home


def test_the_first_release_is_kept() -> None:
    assert "0.1" in {release.name for release in RELEASES}


@pytest.mark.parametrize("kind", ["auto", "zstd", "volumes"])
def test_a_bundle_of_a_release_verifies_and_installs(release: Path, kind: str, tmp_path: Path) -> None:
    bundle = release / f"{kind}.tar.zst{'.001' if kind == 'volumes' else ''}"
    assert bundle_command("digest", bundle).strip() == digests(release)[kind]
    assert json.loads(bundle_command("verify", release / f"{kind}.tar.zst", "--json"))["ok"]
    bundle_command("install", bundle, "--hf-home", tmp_path)
    assert json.loads(bundle_command("verify", "golden", "--hf-home", tmp_path, "--json"))["ok"]
    assert_home_is_as_locked(tmp_path, release / "base.lock")


@pytest.mark.parametrize("name", ["base.lock", "next.lock"])
def test_a_lock_of_a_release_is_read_and_keeps_its_digest(release: Path, name: str) -> None:
    lock = read_lock(release / name)
    assert lock is not None
    assert lock.is_complete
    # `Lock.digest` is that of this text.
    assert lock.dumps() == (release / name).read_text()


def test_a_home_of_a_release_is_listed_and_verifies(release: Path, home: Path) -> None:
    before = tree(home)
    (listed,) = json.loads(bundle_command("list", "--hf-home", home, "--json"))["bundles"]
    assert (listed["name"], listed["digest"]) == ("golden", digests(release)["auto"])
    assert json.loads(bundle_command("verify", "golden", "--hf-home", home, "--json"))["ok"]
    assert Path(bundle_command("path", "org/model", "--hf-home", home).strip()).is_dir()
    assert_home_is_as_locked(home, release / "base.lock")
    assert tree(home) == before


def test_to_install_into_the_home_what_is_there_writes_no_content(release: Path, home: Path) -> None:
    before = read_content(home)
    done = json.loads(bundle_command("install", release / "auto.tar.zst", "--hf-home", home, "--json"))
    assert done["written_files"] == 0
    # If it was not before, it is taken over: it has a view and the receipt of a generation now.
    assert read_content(home) == before
    assert json.loads(bundle_command("verify", "golden", "--hf-home", home, "--json"))["ok"]


def test_a_home_of_a_release_is_upgraded_by_its_delta(release: Path, home: Path) -> None:
    assert json.loads(bundle_command("verify", release / "delta.tar.zst", "--json"))["ok"]
    done = json.loads(bundle_command("install", release / "delta.tar.zst", "--hf-home", home, "--json"))
    assert done["digest"] == digests(release)["delta"]
    assert json.loads(bundle_command("verify", "golden", "--hf-home", home, "--json"))["ok"]
    assert_home_is_as_locked(home, release / "next.lock")


@pytest.mark.parametrize("upgraded", [False, True], ids=["as it was", "upgraded"])
def test_to_remove_the_bundle_from_the_home_leaves_the_users_own_download(
    release: Path, home: Path, tmp_path: Path, upgraded: bool
) -> None:
    if upgraded:
        bundle_command("install", release / "delta.tar.zst", "--hf-home", home)
    bundle_command("remove", "golden", "--hf-home", home)
    make.write_own_download(tmp_path / "own")
    assert tree(home) == tree(tmp_path / "own")


def test_a_release_is_kept_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(make, "HERE", tmp_path)
    make.main()
    made = make.release_folder(__version__)
    assert {path.name for path in tmp_path.iterdir()} == {made.name}
    before = tree(made)
    with pytest.raises(SystemExit, match="is there already"):
        make.main()
    assert tree(tmp_path / made.name) == before
    assert set(before) >= {"release.json", "base.lock", "next.lock", "home.json", "auto.tar.zst", "delta.tar.zst"}
