"""A bundle that goes to a registry while it is made: all of it, or nothing to be seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import NetworkError, OutputError, UsageError
from bundler.format.storage.destinations import Sink
from bundler.make.pack import pack
from bundler.remote.address import Address
from bundler.transfer.pull import pull
from bundler.transfer.stream import StreamedPush, stream_to
from tests.support.bundles import blob_store, lock_of, locked_repo
from tests.support.network.registry import Registry, needs_registry

pytestmark = needs_registry

FILES = {"w": os.urandom(3 << 20), "c": b"c"}
LOCK = lock_of(locked_repo("org/m", FILES, lfs=["w"]), name="tiny")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_what_was_packed_into_a_registry_is_the_bundle(registry: Registry, tmp_path: Path) -> None:
    store = blob_store(tmp_path / "store", FILES.values())
    pack(LOCK, store, tmp_path / "file.tar.zst")
    address = Address(registry.address("streamed/whole:1"))
    with StreamedPush(address, tmp_path / "notes") as upload:
        result = pack(LOCK, store, upload.destination)
        pinned, _ = upload.finish(LOCK, result.digest, None, lambda note: None)
    pulled = pull(Address(pinned), tmp_path / "pulled.tar.zst")
    assert pulled.path.read_bytes() == (tmp_path / "file.tar.zst").read_bytes()


def test_what_is_given_up_is_not_to_be_seen(registry: Registry, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        StreamedPush(Address(registry.address("streamed/half:1")), tmp_path / "notes") as upload,
        upload.destination.open() as sink,
    ):
        sink.write(b"half")
        raise KeyboardInterrupt
    assert not list(tmp_path.glob("**/half/_manifests/tags/*"))


def test_a_registry_that_breaks_off_is_the_reason_that_is_told(tmp_path: Path) -> None:
    with Registry(tmp_path / "registry") as registry:
        upload = StreamedPush(Address(registry.address("streamed/broken:1")), tmp_path / "notes")

        def write(sink: Sink) -> None:
            sink.write(b"begin")
            registry.__exit__(None, None, None)
            for _ in range(1000):
                sink.write(b"more" * 100_000)

        with pytest.raises(NetworkError) as caught, upload, upload.destination.open() as sink:
            write(sink)
    assert isinstance(caught.value.__cause__, OutputError)


@pytest.mark.parametrize("text", ["https://host/a.tar.zst", f"oci://host/a:1@sha256:{'0' * 64}"])
def test_only_a_tag_of_a_registry_or_a_store_is_streamed_to(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        stream_to(Address(text), tmp_path)
