"""A bundle that is there already is hashed and left alone; anything else is packed anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.files.digest import hash_file
from bundler.format import reader as reader_module
from bundler.format.storage.destinations import (
    Destination,
    FileDestination,
    PipeDestination,
    VolumeDestination,
)
from bundler.format.storage.volume_names import volume_files
from bundler.make import pack_once as pack_once_module
from bundler.make.delta import Base
from bundler.make.pack_once import pack_once
from bundler.make.store import Store, StoredBlob
from bundler.plan.lock import Lock
from tests.support.bundles import lock_of, locked_repo

# Random, so that it fills more than one chunk of the bundle.
CONTENTS = {"config.json": b"{}" * 50, "big.bin": os.urandom(6_000_000)}


def stored(store: Store, contents: dict[str, bytes], name: str = "tiny") -> Lock:
    repo = locked_repo("org/m", contents)
    for file, content in zip(repo.files, (contents[path] for path in sorted(contents)), strict=True):
        with store.work_folder() as folder:
            (folder / "x").write_bytes(content)
            digests = hash_file(folder / "x", "sha256", "blake3", "git_sha1")
            store.adopt(folder / "x", StoredBlob.of(file.etag, digests))
    return lock_of(repo, name=name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def lock(store: Store) -> Lock:
    return stored(store, CONTENTS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.tar.zst"


def state(out: Path) -> list[tuple[str, int, bytes]]:
    """Names, inodes and contents: a file that was written again has another inode."""
    paths = sorted(out.parent.glob(f"{out.name}*"))
    return [(path.name, path.stat().st_ino, path.read_bytes()) for path in paths]


FILE: Callable[[Path], Destination] = FileDestination
VOLUMES: Callable[[Path], Destination] = lambda path: VolumeDestination(path, 5_000_000)  # noqa: E731


@pytest.mark.parametrize("destination", [FILE, VOLUMES], ids=["file", "volumes"])
def test_a_bundle_that_is_there_is_left_as_it_is_with_the_same_result(
    store: Store,
    lock: Lock,
    out: Path,
    destination: Callable[[Path], Destination],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first_place = destination(out)
    first = pack_once(lock, store, first_place)
    before = state(out)
    monkeypatch.setattr(pack_once_module, "pack", lambda *a, **k: pytest.fail("packed again"))
    # To be bounded by hashing, it must decode nothing, and read no blob.
    monkeypatch.setattr(reader_module, "decode_chunk", lambda *a, **k: pytest.fail("decoded"))
    counts: list[int] = []
    second_place = destination(out)
    second = pack_once(lock, store, second_place, progress=counts.append)
    assert (first.was_there, second.was_there) == (False, True)
    assert second.result == first.result and state(out) == before
    assert sum(counts) == second.result.raw_bytes
    assert getattr(second_place, "volumes", None) == getattr(first_place, "volumes", None)


@pytest.mark.parametrize("shared", [True, False])
def test_a_delta_that_is_there_still_says_whether_it_needs_its_base(
    store: Store, lock: Lock, out: Path, tmp_path: Path, shared: bool
) -> None:
    other = CONTENTS if shared else {"config.json": b"other"}
    pack_once(stored(store, other, "older"), store, FileDestination(tmp_path / "base.tar.zst"))
    base = Base.open(tmp_path / "base.tar.zst")
    first, second = [pack_once(lock, store, FileDestination(out), base=base) for _ in range(2)]
    assert (second.was_there, second.result) == (True, first.result)
    assert second.result.needs_base == shared


@pytest.mark.parametrize("destination", [FILE, VOLUMES], ids=["file", "volumes"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "longer"])
def test_a_bundle_that_is_damaged_is_packed_anew(
    store: Store, lock: Lock, out: Path, destination: Callable[[Path], Destination], damage: str
) -> None:
    first = pack_once(lock, store, destination(out))
    whole = [(name, content) for name, _, content in state(out)]
    victim = (volume_files(out) or [out])[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif damage == "longer":
        victim.write_bytes(victim.read_bytes() + b"x")
    else:
        victim.write_bytes(content)
    counts: list[int] = []
    second = pack_once(lock, store, destination(out), progress=counts.append)
    assert not second.was_there and second.result == first.result
    assert [(name, content) for name, _, content in state(out)] == whole
    assert sum(counts) == second.result.raw_bytes


def test_other_options_another_lock_another_place_and_another_encoder_are_packed_anew(
    store: Store, lock: Lock, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_store = Store(tmp_path / "base-store")
    old = tmp_path / "old.tar.zst"
    pack_once(
        stored(base_store, {"config.json": CONTENTS["config.json"]}, name="old"), base_store, FileDestination(old)
    )
    pack_once(lock, store, FileDestination(out))
    other = replace(lock, manifest_sha256="1" * 64)
    other_store = Store(tmp_path / "other-store")
    stored(other_store, CONTENTS)
    for done in (
        pack_once(lock, store, FileDestination(out), codec="zstd"),
        pack_once(lock, store, FileDestination(out), level=1),
        pack_once(lock, store, FileDestination(out), base=Base.open(old)),
        pack_once(other, store, FileDestination(out)),
        pack_once(lock, store, FileDestination(tmp_path / "elsewhere.tar.zst")),
        pack_once(lock, store, VolumeDestination(out, 5_000_000)),
        pack_once(lock, store, VolumeDestination(out, 4_500_000)),
        pack_once(lock, other_store, VolumeDestination(out, 4_500_000)),
    ):
        assert not done.was_there
    for name, value in (("FORMAT_VERSION", 99), ("__version__", "99")):
        pack_once(lock, store, FileDestination(out))
        monkeypatch.setattr(pack_once_module, name, value)
        assert not pack_once(lock, store, FileDestination(out)).was_there


def test_the_bundle_of_another_lock_under_the_same_name_is_replaced(store: Store, lock: Lock, out: Path) -> None:
    first = pack_once(lock, store, FileDestination(out))
    other = pack_once(replace(lock, manifest_sha256="1" * 64), store, FileDestination(out))
    third = pack_once(lock, store, FileDestination(out))
    assert (other.was_there, third.was_there) == (False, False)
    assert other.result.digest != first.result.digest and third.result == first.result


def test_a_bundle_of_volumes_that_were_joined_by_cat_is_not_the_file(store: Store, lock: Lock, out: Path) -> None:
    first = pack_once(lock, store, FileDestination(out))
    content = out.read_bytes()
    place = VolumeDestination(out.with_name("v.tar.zst"), 5_000_000)
    pack_once(lock, store, place)
    out.write_bytes(b"".join(path.read_bytes() for path in place.volumes))
    again = pack_once(lock, store, FileDestination(out))
    assert not again.was_there and again.result == first.result and out.read_bytes() == content


def test_a_pipe_takes_the_bundle_each_time(store: Store, lock: Lock, tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        with (tmp_path / "pipe").open("wb") as stream:
            assert not pack_once(lock, store, PipeDestination(stream.fileno())).was_there
        contents.append((tmp_path / "pipe").read_bytes())
    assert contents[0] == contents[1]
