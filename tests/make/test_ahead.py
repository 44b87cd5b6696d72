"""Large files that are encoded while others are downloaded: the bundle is the same, byte by byte."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import psutil
import pytest

from bundler.errors import IntegrityError
from bundler.files.digest import hash_file, sha256_bytes
from bundler.format.cut import LARGE_BLOB_BYTES, Chunk, Piece
from bundler.make.ahead import encoder
from bundler.make.ahead.ahead import Ahead
from bundler.make.ahead.encoder import Encoder, Job
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


def list_files(store: Store, lock: Lock) -> list[StoredBlob]:
    found = [store.find(file.etag) for file in lock.repos[0].files]
    return [stored for stored in found if stored is not None and stored.size_bytes >= LARGE_BLOB_BYTES]


def encode(store: Store, lock: Lock) -> Ahead:
    """Encode all files ahead, in this process."""
    ahead = Ahead(store, "auto", 3, lock, plans_of(lock))

    def work(frames: int, results: int) -> None:
        job = Job(
            store=str(store.root),
            codec="auto",
            level=3,
            needed_bytes=ahead._needed,
            most_load=2,
            frames=frames,
            results=results,
        )
        Encoder(job).encode_all(list_files(store, lock))

    with mock.patch.object(ahead, "_launch", work):
        ahead.start()
    ahead.finish()
    return ahead


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for at most a minute."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


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


def test_the_process_encodes_what_it_is_given(store: Store, lock: Lock, tmp_path: Path) -> None:
    whole = digest_of(store, lock, tmp_path / "one", None)
    with Ahead(store, "auto", 3, lock, plans_of(lock)) as ahead:
        ahead._most_load = 1e6
        ahead.start()
        for stored in list_files(store, lock):
            ahead.add(stored)
        results = ahead._results
        assert results is not None
        wait_until(lambda: os.pread(results.fileno(), 1 << 16, 0).count(b"\n") == 2)
        ahead.finish()
        assert ahead.files == 2
        assert digest_of(store, lock, tmp_path / "two", ahead) == whole


def test_where_nothing_is_downloaded_or_large_nothing_is_started(store: Store, lock: Lock) -> None:
    small = lock_of(locked_repo("org/m", {"c.json": b"{}"}))
    for ahead in (
        Ahead(store, "auto", 3, lock, plans_of(lock, staged=True)),
        Ahead(store, "auto", 3, small, plans_of(small)),
    ):
        ahead.start()
        assert ahead._process is None
        ahead.finish()
        assert ahead.files == 0


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
    assert ahead._frames is not None
    os.pwrite(ahead._frames.fileno(), bytes(100), 1_000_000)
    assert digest_of(store, lock, tmp_path / "two", ahead) == whole


def no_room(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    real = shutil.disk_usage(store.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=20_000_000))


def full_disk(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoder.os, "write", refuse)


def busy_machine(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))


def no_memory(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(encoder, "BufferPool", refuse)


def fault_of_ours(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a codec that does not take this file")

    monkeypatch.setattr(encoder, "encode_chunk", fail)


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
        ahead.start()
        process = ahead._process
        assert process is not None
        for stored in list_files(store, lock):
            ahead.add(stored)
        ahead.finish()
        assert process.returncode is not None
    assert list((store.root / "work").iterdir()) == []


def test_it_ends_with_the_process_that_started_it(store: Store, lock: Lock, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tests.make.test_ahead import *\n"
        f"lock = lock_of(locked_repo('org/m', FILES, lfs=tuple(FILES)))\n"
        f"ahead = Ahead(Store(Path({str(store.root)!r})), 'auto', 3, lock, plans_of(lock)); ahead.start()\n"
        "print(ahead._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    wait_until(lambda: not psutil.pid_exists(int(done.stdout)))


def test_a_process_that_has_ended_or_is_far_behind_holds_nobody_up(store: Store, lock: Lock) -> None:
    [first, *_] = list_files(store, lock)
    with Ahead(store, "auto", 3, lock, plans_of(lock)) as ahead:
        ahead.start()
        assert ahead._process is not None
        ahead._process.send_signal(signal.SIGSTOP)
        for _ in range(10_000):
            ahead.add(first)
        ahead._process.kill()
        ahead._process.wait()
        ahead.add(first)


def test_a_chunk_of_another_size_or_codec_is_not_ready(store: Store, lock: Lock) -> None:
    ahead = encode(store, lock)
    [blob] = [blob for blob in layout(lock).blobs if blob.size_bytes == len(FILES["a.bin"])]
    assert ahead.take(Chunk([Piece(4 << 20, blob=blob)])) is not None
    assert ahead.take(Chunk([Piece(1 << 20, blob=blob)])) is None
    assert ahead.take(Chunk([Piece(4 << 20, blob=blob), Piece(1, b"x")])) is None
    assert ahead.take(Chunk([Piece(3, b"xyz")])) is None
