"""bundler.home.installation.install: from a bundle to a cache, in any state that the cache may be in."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from bundler.errors import BundleError, FormatError, IntegrityError, SpaceError
from bundler.home.common import publish
from bundler.home.generations.prune import prune
from bundler.home.home import Home
from bundler.home.installation.install import install
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle, tree

FILES = {"config.json": b'{"model_type": "x"}', "w.safetensors": os.urandom(3 << 20), "sub/empty": b""}
PREPARED = {"default/0.0.0/h/d-train.arrow": b"arrow" * 1000, "default/0.0.0/h/dataset_info.json": b"{}"}


def _model(**changes: object) -> object:
    return locked_repo("org/m", FILES, aliases=["m"], absent=["none.json"], lfs=["w.safetensors"], **changes)  # type: ignore[arg-type]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    data = locked_repo("org/d", {"d.txt": b"d"}, kind="dataset", prepared=PREPARED, aliases=["d"])
    contents = [*FILES.values(), b"d", *PREPARED.values()]
    return tiny_bundle(tmp_path / "made", _model(), data, contents=contents)  # type: ignore[arg-type]


def test_an_installed_bundle_has_every_file_under_every_name(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    result = install(bundle, home)
    assert result.written_files == result.files == 6
    for name in ("models--org--m", "models--m"):
        snapshot = home / "hub" / name / "snapshots" / COMMIT
        assert {path: (snapshot / path).read_bytes() for path in FILES} == FILES
        assert (home / "hub" / name / "refs" / "main").read_bytes() == COMMIT.encode()
        assert (home / "hub" / name / ".no_exist" / COMMIT / "none.json").read_bytes() == b""
    for name in ("org___d", "d"):
        assert (home / "datasets" / name / "default/0.0.0/h/d-train.arrow").read_bytes() == b"arrow" * 1000
    assert result.bundle.verify().ok


def test_what_is_installed_is_what_stock_tar_unpacks(bundle: Path, tmp_path: Path) -> None:
    import subprocess

    home, stock = tmp_path / "home", tmp_path / "stock"
    install(bundle, home)
    stock.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", bundle, "-C", stock], check=True)

    def lead(root: Path) -> dict[str, str]:
        """Path -> digest, or what a link leads to: by which name a link says it is for the home to choose."""
        found = {name: value for name, value in tree(root).items() if not name.startswith("bundles/")}
        return {
            name: os.path.normpath(f"{root / name}/../{value[3:]}").removeprefix(f"{root}/")
            if value.startswith("-> ")
            else value
            for name, value in found.items()
        }

    refs = {f"hub/{repo}/refs/bundle/tiny/{COMMIT[:12]}" for repo in ("models--org--m", "datasets--org--d")}
    ours, theirs = lead(home), lead(stock)
    assert {name: value for name, value in ours.items() if name not in refs} == theirs
    assert refs <= set(ours)


def test_a_second_installation_changes_and_writes_nothing(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home)
    before = tree(home)
    inodes = {p: p.lstat().st_ino for p in home.rglob("*") if "bundles" not in p.parts}
    result = install(bundle, home)
    assert result.written_files == 0
    assert tree(home) == before
    assert {p: p.lstat().st_ino for p in inodes} == inodes


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "grow", "replace by a link"])
def test_a_damaged_blob_is_found_by_hash_and_written_again(bundle: Path, tmp_path: Path, damage: str) -> None:
    home = tmp_path / "home"
    installed = install(bundle, home).bundle
    good = tree(home)
    blob = next(path for path in (home / "hub" / "models--org--m" / "blobs").iterdir() if len(path.name) == 64)
    content = blob.read_bytes()
    if damage == "flip":
        blob.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "truncate":
        os.truncate(blob, 100)
    elif damage == "grow":
        blob.write_bytes(content + b"x")
    else:
        blob.unlink()
        if damage == "replace by a link":
            (tmp_path / "secret").write_bytes(b"elsewhere")
            blob.symlink_to(tmp_path / "secret")
    report = installed.verify()
    assert not report.ok
    assert any("w.safetensors" in str(fault) for fault in report.faults)
    assert install(bundle, home).written_files == 1
    assert tree(home) == good


def test_files_of_other_repos_in_the_cache_are_left_alone(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    foreign = home / "hub" / "models--other--repo" / "blobs" / "x"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"theirs")
    (home / "token").write_bytes(b"hf_secret")
    install(bundle, home)
    assert foreign.read_bytes() == b"theirs"
    assert (home / "token").read_bytes() == b"hf_secret"


def test_a_download_of_the_users_under_the_alias_is_kept_beside_the_bundles_files(
    bundle: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    own = home / "hub" / "models--m" / "snapshots" / OTHER_COMMIT / "own.txt"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    result = install(bundle, home)
    snapshot = home / "hub" / "models--m" / "snapshots" / COMMIT
    assert {path: (snapshot / path).read_bytes() for path in FILES} == FILES
    assert own.read_bytes() == b"own"
    assert result.bundle.verify().ok
    (snapshot / "config.json").unlink()
    assert [fault.kind for fault in result.bundle.verify().faults] == ["missing"]


def test_a_ref_that_named_another_commit_is_moved_and_reported(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ref = home / "hub" / "models--org--m" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text(OTHER_COMMIT)
    assert install(bundle, home).moved_refs == (("hub/models--org--m/refs/main", OTHER_COMMIT, COMMIT),)
    assert ref.read_text() == COMMIT


def test_of_an_unfinished_download_of_the_same_commit_nothing_is_listed_and_nothing_lost(
    bundle: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    repo = home / "hub" / "models--org--m"
    (repo / "trees").mkdir(parents=True)
    (repo / "snapshots" / COMMIT).mkdir(parents=True)
    entry = {"size": 1, "blob_id": "a" * 40}
    (repo / "trees" / f"{COMMIT}.json").write_text(
        json.dumps({"format_version": 1, "files": {"theirs.txt": entry, "never_loaded.bin": entry}})
    )
    (repo / "snapshots" / COMMIT / "theirs.txt").write_text("x")
    result = install(bundle, home)
    listing = json.loads((repo / "trees" / f"{COMMIT}.json").read_bytes())["files"]
    assert sorted(listing) == sorted(FILES)
    path = f"hub/models--org--m/snapshots/{COMMIT}/theirs.txt"
    assert result.set_aside == ((path, f"bundles/set-aside/{path}"),)
    assert (home / "bundles" / "set-aside" / path).read_text() == "x"
    assert result.bundle.verify().ok


def test_two_bundles_of_one_commit_list_the_files_of_both(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    small = tiny_bundle(
        tmp_path / "small", locked_repo("org/m", {"vocab.json": b"{}"}), contents=[b"{}"], name="small"
    )
    first, second = install(bundle, home).bundle, install(small, home).bundle
    listing = json.loads((home / "hub" / "models--org--m" / "trees" / f"{COMMIT}.json").read_bytes())
    assert sorted(listing["files"]) == sorted([*FILES, "vocab.json"])
    assert first.verify().ok
    assert second.verify().ok


def test_an_upgrade_keeps_what_only_the_old_one_had_until_it_is_pruned(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(bundle, home)
    files = FILES | {"w.safetensors": b"new weights"}
    new = tiny_bundle(tmp_path / "new", locked_repo("org/m", files, commit=OTHER_COMMIT), contents=files.values())
    installed = install(new, home).bundle
    assert installed.verify().ok
    snapshots = home / "hub" / "models--org--m" / "snapshots"
    assert len(list(snapshots.iterdir())) == 2
    prune(home)
    assert [path.name for path in snapshots.iterdir()] == [OTHER_COMMIT]
    assert not (home / "hub" / "datasets--org--d").exists()
    assert not (home / "datasets" / "org___d").exists()
    assert len(list((home / "hub" / "models--org--m" / "blobs").iterdir())) == 3


def test_content_of_two_repos_is_written_once(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    path = tiny_bundle(
        tmp_path,
        locked_repo("org/m", {"w": content}, lfs=["w"]),
        locked_repo("org/n", {"v": content}, lfs=["v"]),
        contents=[content],
    )
    home = tmp_path / "home"
    assert install(path, home).bundle.verify().ok
    blobs = list((home / "hub").rglob("blobs/*"))
    assert len(blobs) == 2
    assert blobs[0].samefile(blobs[1])


def test_without_symlinks_snapshots_are_hard_links(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: object, **_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    home = tmp_path / "home"
    result = install(bundle, home)
    assert not result.symlinks
    assert not any(path.is_symlink() for path in home.rglob("*"))
    for name in ("models--org--m", "models--m"):
        weights = home / "hub" / name / "snapshots" / COMMIT / "w.safetensors"
        assert weights.read_bytes() == FILES["w.safetensors"]
        assert weights.stat().st_nlink == 3
    assert result.bundle.verify().ok
    assert install(bundle, home).written_files == 0


def test_without_any_links_a_repo_takes_its_room_once_and_an_alias_once_more(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr(publish.os, "link", refuse)
    home = tmp_path / "home"
    result = install(bundle, home)
    weights = [p for p in home.rglob("*") if p.is_file() and p.stat().st_size == 3 << 20]
    assert sorted(p.parent.parent.parent.name for p in weights) == ["models--m", "models--org--m"]
    assert result.bundle.verify().ok
    assert install(bundle, home).written_files == 0
    weights[0].write_bytes(b"damaged")
    assert not result.bundle.verify().ok
    install(bundle, home)
    assert result.bundle.verify().ok


def test_two_installations_at_once_both_end_well(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    small = tiny_bundle(
        tmp_path / "small", locked_repo("org/m", {"vocab.json": b"{}"}), contents=[b"{}"], name="small"
    )
    failures: list[BaseException] = []

    def work(path: Path) -> None:
        try:
            install(path, home, jobs=1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(path,)) for path in (bundle, small, bundle, small)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Home(home).names() == ["small", "tiny"]
    for name in ("small", "tiny"):
        report = Home(home).bundle(name).verify()
        assert report.faults == ()


def test_room_is_checked_before_anything_is_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    fields = list(real)
    fields[4] = 100  # f_bavail

    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    home = tmp_path / "home"
    with pytest.raises(SpaceError, match=r": 3\.\d+ MB needed, 410 kB free, .* short; nothing was written"):
        install(bundle, home)
    assert not home.exists()


def _refused(bundle: Path, home: Path, kind: type[BundleError]) -> BundleError:
    with pytest.raises(kind) as caught:
        install(bundle, home)
    visible = [
        p
        for p in home.rglob("*")
        if p.is_file() and "blobs" not in p.parts and ".bundle-tmp-" not in str(p) and p.suffix != ".unfinished"
    ]
    assert visible == []
    assert not list(home.rglob("blobs/.bundle-tmp-*"))
    return caught.value


def test_a_flipped_byte_anywhere_in_a_bundle_is_refused_and_leaves_nothing_visible(
    bundle: Path, tmp_path: Path
) -> None:
    content = bundle.read_bytes()
    step = len(content) // 60
    for position in [*range(0, len(content), step), len(content) - 1, len(content) - 50]:
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        bundle.write_bytes(damaged)
        home = tmp_path / f"home-{position}"
        error = _refused(bundle, home, BundleError)
        assert isinstance(error, FormatError | IntegrityError)
        assert str(bundle) in str(error)


@pytest.mark.parametrize("keep", [0, 1, 8, 9, 100, -1, -100])
def test_a_bundle_cut_short_is_refused(bundle: Path, tmp_path: Path, keep: int) -> None:
    content = bundle.read_bytes()
    bundle.write_bytes(content[:keep])
    error = _refused(bundle, tmp_path / "home", FormatError)
    # The first 8 bytes are the preamble: what ends with them, or before, says nothing of an index yet.
    expected = {
        0: "found an empty file",
        1: "found only the first 1 bytes of one",
        8: "found only the first 8 bytes of one",
    }
    assert expected.get(keep, "cut short") in str(error) or (keep not in expected and "index" in str(error))


def test_a_file_with_something_appended_is_refused(bundle: Path, tmp_path: Path) -> None:
    with bundle.open("ab") as stream:
        stream.write(b"\0")
    _refused(bundle, tmp_path / "home", FormatError)


def test_a_plain_tar_zst_is_refused_with_a_word_about_it(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "plain"), "tar", root_dir=tmp_path)
    import zstandard

    path = tmp_path / "plain.tar.zst"
    path.write_bytes(zstandard.compress((tmp_path / "plain.tar").read_bytes()))
    assert "plain .tar.zst" in str(_refused(path, tmp_path / "home", FormatError))


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no-such"):
        install(tmp_path / "no-such.tar.zst", tmp_path / "home")
