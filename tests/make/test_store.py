"""The staging store: what it takes, what it trusts, and what it removes."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from bundler.files.digest import git_blob_sha1, hash_file, sha256_bytes
from bundler.make.store import Store, StoredBlob

CONTENT = b"some text\n" * 1000
ETAG = git_blob_sha1(CONTENT)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, content: bytes = CONTENT, etag: str | None = None) -> StoredBlob:
    etag = etag or git_blob_sha1(content)
    with store.partial(etag, len(content)) as partial:
        assert partial is not None
        partial.write(content)
        return store.adopt(
            partial.path, StoredBlob.of(etag, hash_file(partial.path, "sha256", "blake3", "git_sha1"))
        )


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_adopted_blob_is_found_and_opened_by_its_etag(store: Store) -> None:
    blob = put(store)
    assert store.find(ETAG) == store.find_verified(ETAG) == blob
    assert blob.sha256 == sha256_bytes(CONTENT) and blob.git_sha1 == ETAG and blob.size_bytes == len(CONTENT)
    with store.open(ETAG) as stream:
        assert stream.read() == CONTENT
    assert files_below(store.root) == [f"blobs/{ETAG[:2]}/{ETAG}", f"blobs/{ETAG[:2]}/{ETAG}.json"]


def test_an_lfs_blob_is_named_by_its_sha256(store: Store) -> None:
    assert put(store, etag=sha256_bytes(CONTENT)) == store.find_verified(sha256_bytes(CONTENT))


def test_content_that_is_not_what_its_name_says_is_not_adopted(store: Store) -> None:
    with pytest.raises(ValueError, match="does not have the content"):
        put(store, etag="0" * 40)
    assert store.find("0" * 40) is None


@pytest.mark.parametrize("etag", ["", "../../../etc/passwd", "A" * 40, "a" * 41, "a" * 40 + "\n"])
def test_a_name_that_is_no_etag_is_refused(store: Store, etag: str) -> None:
    with pytest.raises(ValueError, match="expected an etag"):
        store.path(etag)


def test_a_flipped_bit_is_found_and_the_blob_no_longer_used(store: Store) -> None:
    put(store)
    with store.path(ETAG).open("r+b") as stream:
        stream.seek(77)
        stream.write(b"X")
    assert store.find(ETAG) is not None, "find() reads no content"
    assert store.find_verified(ETAG) is None and store.find(ETAG) is None
    assert put(store) == store.find_verified(ETAG), "the next download replaces it"


def test_a_blob_of_another_user_is_good_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = put(store)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(os, "utime", refuse)
    assert store.find_verified(ETAG) == blob == store.find(ETAG)


@pytest.mark.parametrize("damage", ["truncated blob", "missing record", "foreign record"])
def test_a_blob_without_a_fitting_record_is_not_used(store: Store, damage: str) -> None:
    put(store)
    record = store.path(ETAG).with_name(f"{ETAG}.json")
    if damage == "truncated blob":
        store.path(ETAG).write_bytes(CONTENT[:-1])
    elif damage == "missing record":
        record.unlink()
    else:
        other = put(store, b"other")
        shutil.copy(store.path(other.etag).with_name(f"{other.etag}.json"), record)
    assert store.find(ETAG) is None and store.find_verified(ETAG) is None


def test_sweeping_removes_what_nobody_will_use(store: Store) -> None:
    put(store)
    other = put(store, b"other")
    store.path(other.etag).with_name(f"{other.etag}.json").unlink()
    forgotten = store.root / "partial" / f"{ETAG}.{'f' * 12}-1-0-abcd"
    forgotten.write_bytes(b"half")
    store.sweep()
    assert len(files_below(store.root)) == 4, "young enough to be somebody's work"
    os.utime(store.path(other.etag), (0, 0))
    os.utime(forgotten, (0, 0))
    store.sweep()
    assert files_below(store.root) == [f"blobs/{ETAG[:2]}/{ETAG}", f"blobs/{ETAG[:2]}/{ETAG}.json"]


def test_a_work_folder_is_gone_afterwards_and_so_is_a_dead_process_s(store: Store) -> None:
    stale = store.root / "work" / f"w.{Path(store.root / 'x').name}"
    (stale / "hub").mkdir(parents=True)
    long_ago = time.time() - 3 * 24 * 3600
    os.utime(stale, (long_ago, long_ago))
    with store.work_folder() as folder:
        (folder / "file").write_bytes(b"x")
        assert not stale.exists()
    assert list((store.root / "work").iterdir()) == []


def test_the_root_is_the_option_then_the_variable_then_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUNDLE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Store.default_root() == tmp_path / "bundle"
    monkeypatch.setenv("BUNDLE_CACHE", str(tmp_path / "chosen"))
    assert Store.default_root() == tmp_path / "chosen"
    assert Store.default_root(tmp_path / "option") == tmp_path / "option"
