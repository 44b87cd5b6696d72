"""bundle install --only: one repo of a bundle, and no other's bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bundler.errors import NotInstalledError
from bundler.format.reader import BundleReader
from bundler.format.storage.stored import OneFile
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.receipt import read_receipt, receipt_path
from bundler.home.remove import remove
from bundler.make.delta import Base
from tests.support.bundles import OTHER_COMMIT, locked_repo, tiny_bundle, tree

BIG = {name: {"w": random.Random(name).randbytes(8 << 20), "c.json": name.encode()} for name in "abc"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repos = [locked_repo(f"org/{name}", files, aliases=[name], lfs=["w"]) for name, files in BIG.items()]
    contents = [content for files in BIG.values() for content in files.values()]
    return tiny_bundle(tmp_path_factory.mktemp("made"), *repos, contents=contents)


@pytest.mark.parametrize("name", ["org/b", "b"])
def test_only_that_repo_is_read_and_installed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read: list[tuple[int, int]] = []
    original = OneFile.read_into
    monkeypatch.setattr(
        OneFile,
        "read_into",
        lambda self, start, target: read.append((start, len(target))) or original(self, start, target),
    )
    result = install(bundle, tmp_path / "home", only=[name])
    # The one repo, the lock, the index, and a chunk with small files.
    assert (8 << 20) < sum(size for _, size in read) < (8 << 20) + 100_000
    assert [path.name for path in (tmp_path / "home" / "hub").iterdir() if not path.is_symlink()] == [
        "models--org--b"
    ]
    assert (result.files, result.written_files) == (2, 2)
    snapshot = result.bundle.snapshot_path("b")
    assert {path: (snapshot / path).read_bytes() for path in BIG["b"]} == BIG["b"]


def test_the_receipt_says_what_is_there_and_what_was_left_out(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home, only=["org/b"])
    receipt = read_receipt(receipt_path(home, "tiny"))
    with BundleReader(bundle) as reader:
        assert receipt.digest == reader.digest
        assert receipt.lock == reader.lock.with_repos(reader.lock.repos[1:2])
    assert receipt.left_out == ("org/a", "org/c")
    installed = Home(home).bundle("tiny")
    assert installed.verify().ok
    with pytest.raises(NotInstalledError, match="org/a of bundle tiny was left out"):
        installed.snapshot_path("org/a")


def test_a_second_repo_joins_the_first_and_all_of_them_make_the_whole(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home, only=["b"])
    result = install(bundle, home, only=["a"])
    assert result.files == 2
    assert [repo.repo_id for repo in result.bundle.lock.repos] == ["org/a", "org/b"]
    assert result.bundle.left_out == ("org/c",)
    assert result.bundle.verify().ok
    assert install(bundle, home, only=["c"]).bundle.left_out == ()
    install(bundle, tmp_path / "whole")
    assert tree(home) == tree(tmp_path / "whole")


def test_what_is_installed_whole_stays_whole(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home)
    before = tree(home)
    result = install(bundle, home, only=["b"])
    assert (result.files, result.written_files, result.bundle.left_out) == (2, 0, ())
    assert tree(home) == before


def test_the_rest_is_written_by_an_installation_of_everything(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home, only=["b"])
    result = install(bundle, home)
    assert (result.files, result.written_files) == (6, 4)
    assert result.bundle.left_out == ()


def test_of_a_newer_bundle_only_what_is_the_same_stays(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home)
    changed = locked_repo("org/a", {"c.json": b"new"}, commit=OTHER_COMMIT, aliases=["a"])
    same = locked_repo("org/b", BIG["b"], aliases=["b"], lfs=["w"])
    more = locked_repo("org/e", {"e": b"e"})
    newer = tiny_bundle(tmp_path / "newer", changed, same, more, contents=[b"new", b"e", *BIG["b"].values()])
    installed = install(newer, home, only=["org/e"]).bundle
    assert [repo.repo_id for repo in installed.lock.repos] == ["org/b", "org/e"]
    assert installed.left_out == ("org/a",)
    assert installed.verify().ok
    folders = sorted(path.name for path in (installed.view / "hub").iterdir() if not path.is_symlink())
    assert folders == ["models--org--b", "models--org--e"]


def test_content_that_stands_with_another_repo_in_the_bundle_is_found_there(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(2 << 20)
    first = locked_repo("org/m", {"w": content}, lfs=["w"])
    second = locked_repo("org/n", {"v": content}, lfs=["v"])
    path = tiny_bundle(tmp_path, first, second, contents=[content])
    home = tmp_path / "home"
    installed = install(path, home, only=["org/n"]).bundle
    assert (installed.snapshot_path("org/n") / "v").read_bytes() == content
    assert not (home / "hub" / "models--org--m").exists()


def test_all_entries_of_a_repo_are_taken(tmp_path: Path) -> None:
    tokenizer = locked_repo("org/m", {"t": b"t"}, kind="tokenizer")
    model = locked_repo("org/m", {"t": b"t", "w": b"w"})
    data = locked_repo("org/m", {"d": b"d"}, kind="dataset")
    other = locked_repo("org/o", {"o": b"o"})
    path = tiny_bundle(tmp_path, tokenizer, model, data, other, contents=[b"t", b"w", b"d", b"o"])
    installed = install(path, tmp_path / "home", only=["org/m"]).bundle
    assert [repo.kind for repo in installed.lock.repos] == ["tokenizer", "model", "dataset"]
    assert installed.left_out == ("org/o",)


def test_a_repo_that_the_bundle_has_not_is_refused_and_close_names_given(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(
        NotInstalledError, match=r"has no repo 'org/x'; it has: a, b, c, org/a, org/b, org/c"
    ) as caught:
        install(bundle, tmp_path / "home", only=["org/b", "org/x"])
    assert "did you mean" in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_what_was_installed_in_part_is_removed_whole(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home, only=["b"])
    remove("tiny", home)
    assert tree(home) == {}


def test_the_receipt_of_a_part_is_a_base_of_that_part_alone(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home, only=["b"])
    with BundleReader(bundle) as reader:
        omitted = Base.open(receipt_path(home, "tiny")).omitted_from(reader.lock)
        assert omitted == {file.sha256 for file in reader.lock.repos[1].files}
