"""Content is what every one of its names says: a lock that claims a genuine digest for other bytes is refused."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import ConflictError, IntegrityError
from bundler.format.reader import BundleReader
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.receipt import Receipt, receipt_path
from bundler.home.remove import remove
from bundler.make.pack import pack
from bundler.plan.lock import LockedFile, LockedRepo
from bundler.verify.bundle_file import verify_bundle
from tests.support.bundles import COMMIT, lock_of, locked_file, locked_repo, tiny_bundle, tree

GOOD, EVIL = b"good weights" * 10, b"evil weights" * 10


def pack_lie(folder: Path, file: LockedFile, content: bytes, *, name: str = "lie") -> Path:
    """Pack a bundle in which `file` has this content, whatever its digests say."""
    repo = replace(locked_repo("org/m", {}), files=(file,))
    folder.mkdir()
    (folder / "content").write_bytes(content)
    pack(lock_of(repo, name=name), lambda blob: folder / "content", folder / "lie.tar.zst")
    return folder / "lie.tar.zst"


def claim(file: LockedFile, **digests: str | None) -> LockedFile:
    return replace(file, **digests)  # type: ignore[arg-type]


good, evil = locked_file("w.bin", GOOD), locked_file("w.bin", EVIL)
LIES: dict[str, LockedFile] = {
    "an LFS file's SHA-256": claim(evil, lfs_sha256=good.sha256, sha256=good.sha256),
    "git's id of a file": claim(evil, blob_id=good.blob_id),
    "our own SHA-256 of a file": claim(evil, sha256=good.sha256),
}


@pytest.fixture(params=LIES.values(), ids=list(LIES))
def lie(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return pack_lie(tmp_path / "lie", request.param, EVIL)


@pytest.mark.parametrize("open_it", [Path, io.FileIO], ids=["a file", "a pipe"])
def test_a_genuine_digest_beside_other_bytes_is_refused_and_nothing_of_it_stays(
    lie: Path, tmp_path: Path, open_it: Callable[[Path], Path]
) -> None:
    with pytest.raises(IntegrityError, match=r"w\.bin|blobs/"):
        install(open_it(lie), tmp_path / "home")
    assert tree(tmp_path / "home") == {}


def test_verifying_the_file_finds_it_too(lie: Path) -> None:
    with BundleReader(lie) as reader:
        report = verify_bundle(reader, jobs=1)
    assert [fault.kind for fault in report.faults] == ["changed"]


def test_the_installed_blob_of_that_name_is_not_replaced(lie: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    repo = locked_repo("org/m", {"w.bin": GOOD}, lfs=["w.bin"])
    install(tiny_bundle(tmp_path / "good", repo, contents=[GOOD], name="good"), home)
    before = tree(home)
    with pytest.raises((IntegrityError, ConflictError)):
        install(lie, home)
    assert tree(home) == before
    assert Home(home).bundle("good").verify().ok


def test_a_file_that_stands_there_already_does_not_vouch_for_a_lie(tmp_path: Path) -> None:
    home = tmp_path / "home"
    lying = LIES["git's id of a file"]
    blob = home / "hub" / "models--org--m" / "blobs" / lying.etag
    blob.parent.mkdir(parents=True)
    blob.write_bytes(EVIL)
    with pytest.raises(IntegrityError):
        install(pack_lie(tmp_path / "lie", lying, EVIL), home)
    assert Home(home).names() == []


def test_of_a_bundle_that_an_earlier_version_installed_every_digest_is_taken_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    bundle = tiny_bundle(tmp_path / "b", locked_repo("org/m", {"a": b"a"}), contents=[b"a"])
    install(bundle, home)
    path = receipt_path(home, "tiny")
    assert Receipt.parse(path.read_bytes(), path).is_checked
    head, _, rest = path.read_bytes().partition(b' "checked_digests"')
    body = (head + rest.partition(b"\n")[2]).rpartition(b'\n "receipt_sha256"')[0]
    path.write_bytes(body + b'\n "receipt_sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n')
    assert not Receipt.parse(path.read_bytes(), path).is_checked
    assert install(bundle, home).written_files == 0
    assert Receipt.parse(path.read_bytes(), path).is_checked


def _other_file(**changes: object) -> LockedRepo:
    return replace(locked_repo("org/m", {"other": b"o"}), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "repo",
    [locked_repo("org/m", {"a": b"other"}), _other_file(absent=("a",))],
    ids=["another file", "no such file"],
)
def test_a_bundle_that_says_something_else_of_a_file_of_an_installed_commit_is_refused(
    repo: LockedRepo, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    install(tiny_bundle(tmp_path / "1", locked_repo("org/m", {"a": b"a"}), contents=[b"a"], name="first"), home)
    before = tree(home)
    second = tiny_bundle(tmp_path / "2", repo, contents=[b"other", b"o"], name="second")
    with pytest.raises(ConflictError) as caught:
        install(second, home)
    assert caught.value.exit_code == 17 and "a of org/m at cccccccccccc" in caught.value.message
    assert tree(home) == before


def test_a_home_that_was_copied_without_its_links_loses_nothing(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "w.bin": GOOD, "sub/w.bin": GOOD}
    bundle = tiny_bundle(tmp_path / "b", locked_repo("org/m", files), contents=files.values())
    install(bundle, tmp_path / "one")
    home = tmp_path / "home"
    shutil.copytree(tmp_path / "one" / "hub", home / "hub", symlinks=False)
    blobs = home / "hub" / "models--org--m" / "blobs"
    shutil.rmtree(blobs)
    blobs.mkdir()
    installed = install(bundle, home).bundle
    assert installed.verify().faults == ()
    snapshot = home / "hub" / "models--org--m" / "snapshots" / COMMIT
    assert {name: (snapshot / name).read_bytes() for name in files} == files
    remove("tiny", home)
    # What stood there before belongs to the user, and stays.
    assert {name: (snapshot / name).read_bytes() for name in files} == files
