"""Where the bases of a delta are read: in the older bundle, and in the store if that has no content, or not all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.files.digest import hash_file
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import FileDestination
from bundler.make.delta import Base
from bundler.make.pack_once import Packed, pack_once
from bundler.make.store import Store, StoredBlob
from bundler.plan.lock import Lock
from tests.support.bundles import lock_of, locked_repo
from tests.support.fine_tunes import make_weights, safetensors_bytes, tune

ROW = [make_weights(1, 1 << 19)]
for number in range(3):
    ROW.append(tune(ROW[-1], number))
CONTENTS = [safetensors_bytes({"w": words}) for words in ROW]


def stored(store: Store, week: int) -> Lock:
    """The lock of a week's weights, which are in the store."""
    repo = locked_repo("org/m", {"w.safetensors": CONTENTS[week]})
    with store.work_folder() as folder:
        (folder / "x").write_bytes(CONTENTS[week])
        digests = hash_file(folder / "x", "sha256", "blake3", "git_sha1")
        store.adopt(folder / "x", StoredBlob.of(repo.files[0].etag, digests))
    return lock_of(repo, name="weekly")


def pack_week(folder: Path, store: Store, week: int, base: Path | None) -> Packed:
    lock = stored(store, week)
    (folder / f"{week}.lock").write_bytes(lock.encoded)
    destination = FileDestination(folder / f"{week}.tar.zst")
    return pack_once(lock, store, destination, base=Base.open(base) if base else None)


@pytest.mark.parametrize("kind", ["lock", "tar.zst"])
def test_week_by_week_only_differences_are_carried(tmp_path: Path, kind: str) -> None:
    store = Store(tmp_path / "store")
    whole = pack_week(tmp_path, store, 0, None).result.size_bytes
    for week in (1, 2, 3):
        made = pack_week(tmp_path, store, week, tmp_path / f"{week - 1}.{kind}")
        assert made.result.size_bytes < whole / 3
        with BundleReader(made.result.path) as reader:
            assert [len(bases) for bases in reader.bases.values()] == [1]


def test_without_the_store_a_bundle_that_is_whole_will_do(tmp_path: Path) -> None:
    pack_week(tmp_path, Store(tmp_path / "store"), 0, None)
    made = pack_week(tmp_path, Store(tmp_path / "other"), 1, tmp_path / "0.tar.zst")
    with BundleReader(made.result.path) as reader:
        assert len(reader.bases) == 1


@pytest.mark.parametrize("base", ["0.lock", "1.tar.zst"])
def test_without_any_content_the_weights_are_carried_whole(tmp_path: Path, base: str) -> None:
    store = Store(tmp_path / "store")
    pack_week(tmp_path, store, 0, None)
    pack_week(tmp_path, store, 1, tmp_path / "0.lock")
    made = pack_week(tmp_path, Store(tmp_path / "other"), 2, tmp_path / base)
    with BundleReader(made.result.path) as reader:
        assert not reader.bases


def test_a_damaged_file_of_the_store_is_no_base(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    pack_week(tmp_path, store, 0, None)
    path = store.path(stored(store, 0).repos[0].files[0].etag)
    path.write_bytes(bytes(len(CONTENTS[0])))
    made = pack_week(tmp_path, store, 1, tmp_path / "0.lock")
    with BundleReader(made.result.path) as reader:
        assert not reader.bases


def test_what_can_be_read_of_the_base_decides_what_is_packed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    pack_week(tmp_path, store, 0, None)
    assert not pack_week(tmp_path, store, 1, tmp_path / "0.lock").was_there
    assert pack_week(tmp_path, store, 1, tmp_path / "0.lock").was_there
    store.path(stored(store, 0).repos[0].files[0].etag).unlink()
    assert not pack_week(tmp_path, store, 1, tmp_path / "0.lock").was_there
