"""Large files that are encoded while others are downloaded: the bundle is the same, byte by byte."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.errors import IntegrityError
from bundler.files.digest import hash_file, sha256_bytes
from bundler.format.cut import Chunk, Piece
from bundler.make import ahead as ahead_module
from bundler.make.ahead import Ahead
from bundler.make.fetch import blob_path
from bundler.make.pack import pack
from bundler.make.room import RepoPlan
from bundler.make.store import Store, StoredBlob
from bundler.plan.layout import layout
from bundler.plan.lock import Lock
from tests.support.bundles import lock_of, locked_repo

DICE = random.Random(11)
FILES = {
    "a.bin": DICE.randbytes(9_000_001),
    "b.txt": b"words and words\n" * 200_000,
    "c.json": b"{}",
}


@pytest.fixture(autouse=True)
def idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


@pytest.fixture
def lock() -> Lock:
    return lock_of(locked_repo("org/m", FILES, lfs=tuple(FILES)))


@pytest.fixture
def store(tmp_path: Path, lock: Lock) -> Store:
    store = Store(tmp_path / "store")
    for content in FILES.values():
        with store.partial(sha256_bytes(content), len(content)) as partial:
            assert partial is not None
            partial.write(content)
            store.adopt(
                partial.path, StoredBlob.of(sha256_bytes(content), hash_file(partial.path, "sha256", "blake3"))
            )
    return store


def plans_of(lock: Lock, *, staged: bool = False) -> list[RepoPlan]:
    """Return plans as before a fetch: nothing is there, or all is."""
    [repo] = lock.repos
    return [
        RepoPlan(
            repo=repo,
            files=len(repo.files),
            size_bytes=repo.size_bytes,
            staged_bytes=repo.size_bytes if staged else 0,
            partial_bytes=0,
        )
    ]


def encode(store: Store, lock: Lock, *, staged: bool = False) -> Ahead:
    """Encode all files ahead, and wait for that."""
    ahead = Ahead(store, "auto", 3, lock, plans_of(lock, staged=staged))
    for file in lock.repos[0].files:
        stored = store.find(file.etag)
        assert stored is not None
        ahead.add(stored)
    ahead._tasks.put(None)
    ahead._work()
    return ahead


def digest_of(store: Store, lock: Lock, out: Path, ahead: Ahead | None) -> str:
    return pack(lock, blob_path(store), out, level=3, jobs=2, ready=ahead).digest


def test_the_bundle_is_the_same_and_large_files_are_not_read_again(
    store: Store, lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = digest_of(store, lock, tmp_path / "one", None)
    ahead = encode(store, lock)
    assert ahead.files == 2
    for name in ("a.bin", "b.txt"):
        path = store.path(sha256_bytes(FILES[name]))
        path.write_bytes(bytes(len(FILES[name])))
    assert digest_of(store, lock, tmp_path / "two", ahead) == whole
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    ahead.__exit__()


def test_where_nothing_is_downloaded_nothing_is_encoded_ahead(store: Store, lock: Lock) -> None:
    assert encode(store, lock, staged=True).files == 0


def test_a_file_that_changed_after_it_arrived_is_not_taken_for_ready(
    store: Store, lock: Lock, tmp_path: Path
) -> None:
    store.path(sha256_bytes(FILES["a.bin"])).write_bytes(bytes(len(FILES["a.bin"])))
    ahead = encode(store, lock)
    assert ahead.files == 1
    with pytest.raises(IntegrityError):
        digest_of(store, lock, tmp_path / "out", ahead)
    assert not (tmp_path / "out").exists()


def test_what_is_damaged_where_it_waits_is_encoded_again(store: Store, lock: Lock, tmp_path: Path) -> None:
    whole = digest_of(store, lock, tmp_path / "one", None)
    ahead = encode(store, lock)
    assert ahead._file is not None
    ahead._file.seek(1_000_000)
    ahead._file.write(bytes(100))
    assert digest_of(store, lock, tmp_path / "two", ahead) == whole


def no_room(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    real = shutil.disk_usage(store.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=20_000_000))


def full_disk(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ahead_module.os, "pwrite", refuse)


def busy_machine(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))


def no_memory(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ahead_module, "BufferPool", refuse)


def fault_of_ours(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a codec that does not take this file")

    monkeypatch.setattr(ahead_module, "encode_chunk", fail)


def store_is_gone(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def fail(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(shutil, "disk_usage", fail)


@pytest.mark.parametrize("spoil", [no_room, full_disk, busy_machine, no_memory, fault_of_ours, store_is_gone])
def test_without_room_or_an_idle_core_packing_does_it_all(
    spoil: Callable[[pytest.MonkeyPatch, Store], None],
    store: Store,
    lock: Lock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = digest_of(store, lock, tmp_path / "one", None)
    with monkeypatch.context() as patch:
        spoil(patch, store)
        ahead = encode(store, lock)
    assert ahead.files == 0
    assert digest_of(store, lock, tmp_path / "two", ahead) == whole


def test_it_leaves_no_file_and_ends_where_it_is(store: Store, lock: Lock) -> None:
    with Ahead(store, "auto", 22, lock, plans_of(lock)) as ahead:
        for file in lock.repos[0].files:
            stored = store.find(file.etag)
            assert stored is not None
            ahead.add(stored)
        ahead.finish()
    assert list((store.root / "work").iterdir()) == []


def test_a_chunk_of_another_size_or_codec_is_not_ready(store: Store, lock: Lock) -> None:
    ahead = encode(store, lock)
    [blob] = [blob for blob in layout(lock).blobs if blob.size_bytes == len(FILES["a.bin"])]
    assert ahead.take(Chunk([Piece(4 << 20, blob=blob)])) is not None
    assert ahead.take(Chunk([Piece(1 << 20, blob=blob)])) is None
    assert ahead.take(Chunk([Piece(4 << 20, blob=blob), Piece(1, b"x")])) is None
    assert ahead.take(Chunk([Piece(3, b"xyz")])) is None
