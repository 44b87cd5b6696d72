"""What a store holds is counted, and what nobody has used for long is deleted; all else stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bundler.files.digest import hash_file
from bundler.files.owner import Owner
from bundler.make.cache.staged import Staged, count_staged, prune_staged
from bundler.make.store import Store, StoredBlob
from tests.support.bundles import tree

DAY = 24 * 3600.0


def stage(store: Store, content: bytes, *, days_ago: float) -> str:
    """Put content into a store, and let nobody have used it since."""
    path = store.root / "new"
    path.write_bytes(content)
    digests = hash_file(path, "sha256", "blake3")
    assert digests.sha256
    store.adopt(path, StoredBlob.of(digests.sha256, digests))
    age(days_ago, store.path(digests.sha256), store.path(digests.sha256).with_suffix(".json"))
    return digests.sha256


def age(days: float, *paths: Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - days * DAY,) * 2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_was_used_lately_stays_and_all_else_goes(store: Store) -> None:
    old, hashed, new = (stage(store, text, days_ago=days) for text, days in ((b"a", 40), (b"bb", 40), (b"ccc", 1)))
    assert store.find_verified(hashed)
    store.keep_record("proven", "key", {})
    dead = store.root / "partial" / f"{'0' * 64}.unknown"
    dead.write_bytes(b"dddd")
    age(40, dead)
    whole = count_staged(store.root)
    assert (whole.content, whole.unfinished) == (Staged(files=3, size_bytes=6), Staged(files=1, size_bytes=4))
    assert whole.records.files == 1

    before = tree(store.root)
    planned = prune_staged(store.root, 30 * DAY, dry_run=True)
    assert tree(store.root) == before
    assert prune_staged(store.root, 30 * DAY) == planned
    assert (planned.content.files, planned.unfinished.files, planned.records.files) == (1, 1, 0)
    assert store.find(old) is None and store.find_verified(hashed) and store.find_verified(new)
    assert prune_staged(store.root, 0).content.files == 2 and count_staged(store.root).records.files == 0


def test_a_download_that_somebody_is_at_stays(store: Store) -> None:
    path = store.root / "partial" / f"{'0' * 64}.{Owner.current().mark}"
    path.write_bytes(b"some")
    age(40, path)
    assert prune_staged(store.root, 0).unfinished.files == 0 and path.exists()


def test_a_folder_that_is_no_store_loses_nothing(tmp_path: Path) -> None:
    for name in ("blobs/ab/notes.txt", "proven/mine.json", "partial/x.txt", "work/keep"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
        age(400, tmp_path / name)
    before = tree(tmp_path)
    assert prune_staged(tmp_path, 0).content.files == 0 and tree(tmp_path) == before
    assert count_staged(tmp_path / "none").content == Staged(files=0, size_bytes=0)
