"""Uploads that end in the middle: a registry of the specification goes on, Debian's begins again."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import RemoteError
from bundler.remote.address import Address
from bundler.remote.http import client, patience
from bundler.remote.http.client import find_target
from bundler.remote.oci.registry import Registry as Repository
from bundler.remote.oci.upload import Uploader
from tests.support.network.registry import Registry, needs_registry
from tests.support.network.spec_registry import SpecRegistry

CONTENT = random.Random(3).randbytes(20 << 20)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Killed(Exception):
    """The process ended here."""


class Source:
    """A content that is read, and counted, up to a byte at which the process is killed, or its connection breaks."""

    size_bytes = len(CONTENT)

    def __init__(self, *ends: tuple[int, BaseException]) -> None:
        self.ends = list(ends)
        self.read_bytes = 0

    def read_into(self, start: int, target: memoryview) -> None:
        if self.ends and start >= self.ends[0][0]:
            raise self.ends.pop(0)[1]
        target[:] = CONTENT[start : start + len(target)]
        self.read_bytes += len(target)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.05,) * 5)
    # A source that says that the connection broke has it still: for so long an answer is waited for.
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 1.0)


@pytest.fixture
def spec() -> Iterator[SpecRegistry]:
    with SpecRegistry() as running:
        yield running


def upload(
    server: Registry | SpecRegistry, name: str, notes: Path, source: Source, progress: list[int] | None = None
) -> int:
    repository = Repository(Address(server.address(name)), "push")
    try:
        counted = progress if progress is not None else []
        return Uploader(repository, notes, counted.append).put_large(source, DIGEST)
    finally:
        repository.close()


def test_a_killed_upload_goes_on_where_the_registry_is(spec: SpecRegistry, tmp_path: Path) -> None:
    for end in (5 << 20, 11 << 20, 16 << 20):
        with pytest.raises(Killed):
            upload(spec, "a/killed:1", tmp_path, Source((end, Killed())))
        while spec.busy:  # with what was on its way
            time.sleep(0.01)
    source = Source()
    assert upload(spec, "a/killed:1", tmp_path, source) == source.read_bytes == 4 << 20
    assert spec.received_bytes == len(CONTENT)
    assert spec.blobs == {DIGEST: CONTENT}
    assert upload(spec, "a/killed:1", tmp_path, Source()) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_broken_upload_goes_on_and_tells_how_far_it_is(spec: SpecRegistry, tmp_path: Path) -> None:
    progress: list[int] = []
    broken = ConnectionResetError()
    upload(spec, "a/broken:1", tmp_path, Source((7 << 20, broken), (12 << 20, broken)), progress)
    assert (sum(progress), spec.received_bytes) == (len(CONTENT), len(CONTENT))


def test_a_registry_that_is_in_trouble_after_a_break_is_asked_again(spec: SpecRegistry, tmp_path: Path) -> None:
    spec.troubles = [503, None, 502]
    upload(spec, "a/trouble:1", tmp_path, Source((7 << 20, ConnectionResetError())))
    assert (spec.blobs, spec.troubles) == ({DIGEST: CONTENT}, [])


def test_a_registry_that_stays_in_trouble_after_a_break_is_given_up(spec: SpecRegistry, tmp_path: Path) -> None:
    spec.troubles = [503] * 20
    with pytest.raises(RemoteError, match="answered 503"):
        upload(spec, "a/down:1", tmp_path, Source((7 << 20, ConnectionResetError())))


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/u", "http://[bad/u", "file:///etc/passwd"])
def test_a_place_for_uploads_that_is_none_is_refused(location: str, spec: SpecRegistry, tmp_path: Path) -> None:
    spec.location = location
    with pytest.raises(RemoteError, match="leads to"):
        upload(spec, "a/astray:1", tmp_path, Source())


def test_from_https_no_upload_leads_to_http() -> None:
    with pytest.raises(RemoteError, match=r"it is no https address"):
        find_target("https://registry.example.org/v2/a/blobs/uploads/", "http://registry.example.org/v2/u")


def test_where_no_note_can_be_kept_it_is_sent_all_the_same(spec: SpecRegistry, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert upload(spec, "a/noteless:1", tmp_path / "file" / "notes", Source()) == len(CONTENT)


def test_a_session_that_the_registry_has_forgotten_is_begun_again(spec: SpecRegistry, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        upload(spec, "a/lost:1", tmp_path, Source((5 << 20, Killed())))
    [note] = tmp_path.iterdir()
    assert note.stat().st_mode & 0o077 == 0
    spec.uploads.clear()
    assert upload(spec, "a/lost:1", tmp_path, Source()) == len(CONTENT)


@needs_registry
def test_a_registry_that_goes_on_with_nothing_has_all_in_the_end(server: Registry, tmp_path: Path) -> None:
    progress: list[int] = []
    with pytest.raises(Killed):
        upload(server, "a/broken:1", tmp_path, Source((5 << 20, Killed())))
    upload(server, "a/broken:1", tmp_path, Source((7 << 20, ConnectionResetError())), progress)
    assert sum(progress) == len(CONTENT)
    assert upload(server, "a/broken:1", tmp_path, Source()) == 0


@needs_registry
def test_what_is_not_what_its_digest_says_is_refused(server: Registry, tmp_path: Path) -> None:
    source = Source()
    source.size_bytes = len(CONTENT) - 1
    with pytest.raises(RemoteError):
        upload(server, "a/wrong:1", tmp_path, source)
