"""One file from a real server on loopback into the store, with everything that goes wrong on the way."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from bundler.errors import HubError, IntegrityError, NetworkError
from bundler.files.digest import sha256_bytes
from bundler.hub.connection import answers as answers_module
from bundler.make.download import request as request_module
from bundler.make.download.download import Downloader
from bundler.make.download.request import Control, StoppedError
from bundler.make.store import Store
from bundler.plan.lock import LockedFile, LockedRepo
from tests.support.hub import RunningHub
from tests.support.remote import locked, write_repo

SMALL = "caf\u00e9 \u2603\n".encode() * 50
BIG = random.Random(0).randbytes(5_000_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    root = tmp_path_factory.mktemp("hub")
    write_repo(root / "org" / "m", {"config.json": SMALL, "sub dir/model.safetensors": BIG, "empty.txt": b""})
    with RunningHub(root) as hub:
        yield hub


@pytest.fixture
def hub(server: RunningHub) -> RunningHub:
    server.clear()
    return server


@pytest.fixture
def repo(hub: RunningHub) -> LockedRepo:
    repo = locked(hub.endpoint, "org/m")
    hub.clear()
    return repo


@pytest.fixture
def downloader(hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Downloader:
    # Waiting between tries is not what is tested here.
    monkeypatch.setattr(request_module, "RETRIES_WITHOUT_PROGRESS", 2)
    return Downloader(store=Store(tmp_path / "store"), endpoint=hub.endpoint)


def file_of(repo: LockedRepo, path: str) -> LockedFile:
    return next(file for file in repo.files if file.path == path)


def leftovers(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("path", "content"), [("config.json", SMALL), ("sub dir/model.safetensors", BIG), ("empty.txt", b"")]
)
def test_a_file_arrives_with_all_its_digests(
    downloader: Downloader, repo: LockedRepo, path: str, content: bytes
) -> None:
    file = file_of(repo, path)
    blob = downloader.download(repo, file)
    assert downloader.store.path(file.etag).read_bytes() == content
    assert blob is not None and blob == downloader.store.find_verified(file.etag)
    assert blob.sha256 == sha256_bytes(content)
    assert (file.lfs_sha256 is not None) == (path == "sub dir/model.safetensors")


def test_a_repo_without_xet_storage_is_asked_for_it_once(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    pytest.importorskip("hf_xet")
    file = file_of(repo, "sub dir/model.safetensors")
    downloader.download(repo, file)
    downloader.store.path(file.etag).unlink()
    downloader.download(repo, file)
    assert len(hub.asked("HEAD")) == 1 and len(hub.asked("GET", "model.safetensors")) == 2


def test_a_dropped_connection_is_continued_where_it_broke(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    hub.fault("drop", "model.safetensors", after_bytes=3_000_000)
    downloader.download(repo, file_of(repo, "sub dir/model.safetensors"))
    first, second = hub.asked("GET", "model.safetensors")
    assert "range" not in first.headers and second.status == 206
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 3_000_000 and second.body_bytes == len(BIG) - start


def test_a_connection_that_keeps_breaking_is_an_error_and_what_came_is_kept(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    file = file_of(repo, "sub dir/model.safetensors")
    hub.fault("drop", "model.safetensors", after_bytes=2_500_000)
    hub.fault("drop", "model.safetensors", after_bytes=0, times=None)
    with pytest.raises(NetworkError):
        downloader.download(repo, file)
    kept = downloader.store.partial_bytes(file.etag, file.size_bytes)
    assert 0 < kept <= 2_500_000 and not downloader.store.path(file.etag).exists()


def test_a_connection_that_drips_is_broken_off_and_continued(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "WATCHED_SECONDS", 0.2)
    hub.fault("drip", "model.safetensors", after_bytes=3_000_000)
    downloader.download(repo, file_of(repo, "sub dir/model.safetensors"))
    _, second = hub.asked("GET", "model.safetensors")
    assert 3_000_000 < int(second.headers["range"].removeprefix("bytes=").removesuffix("-")) < 3_001_000


def test_a_connection_that_always_drips_is_an_error_though_each_byte_is_new(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "WATCHED_SECONDS", 0.2)
    hub.fault("drip", "model.safetensors", after_bytes=0, times=None)
    file = file_of(repo, "sub dir/model.safetensors")
    with pytest.raises(NetworkError, match="bytes in 0 s, expected 1,000 a second"):
        downloader.download(repo, file)
    assert len(hub.asked("GET", "model.safetensors")) == 1 + request_module.RETRIES_WITHOUT_PROGRESS
    assert 0 < downloader.store.partial_bytes(file.etag, file.size_bytes) < 1_000


def test_a_partial_file_is_continued_by_the_next_run_without_what_is_there(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    file = file_of(repo, "sub dir/model.safetensors")
    with downloader.store.partial(file.etag, file.size_bytes) as partial:
        assert partial is not None
        partial.write(BIG[:1_234_567])
    # This process is alive, so its partial file is nobody else's; another machine's that stands still is.
    (left,) = (downloader.store.root / "partial").iterdir()
    abandoned = left.rename(left.with_name(f"{file.etag}.othermachine-1-0-x"))
    os.utime(abandoned, (1_000_000_000, 1_000_000_000))
    received: list[int] = []
    replace(downloader, control=Control(on_received=received.append)).download(repo, file)
    (request,) = hub.asked("GET", "model.safetensors")
    assert request.headers["range"] == "bytes=1234567-"
    assert sum(received) == len(BIG) - 1_234_567


def test_a_damaged_body_is_fetched_once_more(downloader: Downloader, repo: LockedRepo, hub: RunningHub) -> None:
    notes: list[str] = []
    hub.fault("corrupt", "model.safetensors", at=4_000_000)
    file = file_of(repo, "sub dir/model.safetensors")
    replace(downloader, on_note=notes.append).download(repo, file)
    assert downloader.store.path(file.etag).read_bytes() == BIG
    assert [r.status for r in hub.asked("GET", "model.safetensors")] == [200, 200]
    assert len(notes) == 1 and "model.safetensors arrived damaged" in notes[0]


@pytest.mark.parametrize("path", ["config.json", "sub dir/model.safetensors"])
def test_a_body_that_stays_damaged_is_refused_with_both_hashes_and_nothing_is_kept(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub, path: str
) -> None:
    hub.fault("corrupt", path, at=3, times=None)
    file = file_of(repo, path)
    with pytest.raises(IntegrityError) as caught:
        downloader.download(repo, file)
    damaged = bytearray(BIG if file.lfs_sha256 else SMALL)
    damaged[3] ^= 1
    assert path in str(caught.value) and file.etag in str(caught.value)
    if file.lfs_sha256:
        assert sha256_bytes(bytes(damaged)) in str(caught.value)
    assert len(hub.asked("GET", path)) == 2
    assert leftovers(downloader.store) == []


def test_content_other_than_the_lock_s_own_digest_is_refused(downloader: Downloader, repo: LockedRepo) -> None:
    file = replace(file_of(repo, "config.json"), sha256="e" * 64)
    with pytest.raises(IntegrityError, match=f"expected sha256 {'e' * 64} .in the lock., found"):
        downloader.download(repo, file)
    assert leftovers(downloader.store) == []


def test_no_more_is_taken_than_the_lock_announces(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    received: list[int] = []
    file = replace(file_of(repo, "sub dir/model.safetensors"), size_bytes=1000)
    with pytest.raises(
        IntegrityError, match=r"expected 1,000 bytes .in the lock., found more; of these: expected sha256"
    ):
        replace(downloader, control=Control(on_received=received.append)).download(repo, file)
    assert sum(received) == 2 * 1000


@pytest.mark.parametrize("path", ["config.json", "sub dir/model.safetensors", "empty.txt"])
def test_a_lock_with_too_large_a_size_is_found_with_two_fetches(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub, path: str
) -> None:
    file = file_of(repo, path)
    wrong = replace(file, size_bytes=file.size_bytes + 10)
    with pytest.raises(IntegrityError) as caught:
        downloader.download(repo, wrong)
    sizes = f"expected {wrong.size_bytes:,} bytes (in the lock), found {file.size_bytes:,}"
    assert f"{sizes}, but the expected hash: the size in the lock is wrong" in caught.value.message
    assert "bundle lock --upgrade" in (caught.value.hint or "")
    assert [r.status for r in hub.asked("GET", path)] == [200, 200]
    assert leftovers(downloader.store) == []


def test_what_is_there_already_and_ends_too_early_is_fetched_once_more_from_its_first_byte(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    file = file_of(repo, "config.json")
    with downloader.store.partial(file.etag, file.size_bytes) as partial:
        assert partial is not None
        partial.write(SMALL)
    (left,) = (downloader.store.root / "partial").iterdir()
    left.rename(left.with_name(f"{file.etag}.othermachine-1-0-x"))
    os.utime(left.with_name(f"{file.etag}.othermachine-1-0-x"), (1_000_000_000, 1_000_000_000))
    with pytest.raises(IntegrityError, match="twice in a row"):
        downloader.download(repo, replace(file, size_bytes=len(SMALL) + 1))
    assert [r.status for r in hub.asked("GET", "config.json")] == [416, 200]


def test_a_connection_that_breaks_before_a_wrong_size_is_reached_ends_as_well(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    file = file_of(repo, "sub dir/model.safetensors")
    hub.fault("drop", "model.safetensors", after_bytes=3_000_000)
    with pytest.raises(IntegrityError, match="the size in the lock is wrong"):
        downloader.download(repo, replace(file, size_bytes=len(BIG) + 1))
    assert [r.status for r in hub.asked("GET", "model.safetensors")] == [200, 206, 200]


@pytest.mark.parametrize("told", ["length", "chunked", "nothing"])
def test_a_server_that_ignores_ranges_and_sends_too_little_is_asked_a_bounded_number_of_times(
    downloader: Downloader, repo: LockedRepo, told: str
) -> None:
    asked: list[str] = []

    class Short(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            # Never the same length twice in a row: a client must not take a step back for a step on.
            body = SMALL[: 100 + 50 * (len(asked) % 2)]
            self.send_response(200)
            if told == "length":
                self.send_header("Content-Length", str(len(body)))
            elif told == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Short) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        # Where no length is told, a short body cannot be told from a broken connection.
        expected = NetworkError if told == "nothing" else IntegrityError
        with pytest.raises(expected):
            replace(downloader, endpoint=endpoint).download(repo, file_of(repo, "config.json"))
        server.shutdown()
    assert len(asked) == (3 if told == "nothing" else 2)


def test_a_rate_limit_and_a_busy_server_are_waited_out(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    hub.fault("rate_limit", "config.json", retry_after="0")
    hub.fault("status", "config.json", status=503)
    downloader.download(repo, file_of(repo, "config.json"))
    assert [r.status for r in hub.asked("GET", "config.json")] == [429, 503, 200]


def test_a_gated_file_is_refused_with_the_way_to_get_access(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    hub.fault("gated", "config.json", times=None)
    with pytest.raises(HubError) as caught:
        downloader.download(repo, file_of(repo, "config.json"))
    assert "org/m" in str(caught.value) and "hf auth login" in str(caught.value)
    assert leftovers(downloader.store) == []


def test_a_file_that_the_commit_does_not_have_is_a_hub_error(downloader: Downloader, repo: LockedRepo) -> None:
    with pytest.raises(HubError, match=r"gone\.json"):
        downloader.download(repo, replace(file_of(repo, "config.json"), path="gone.json"))


@pytest.mark.parametrize("status", [204, 302, 304])
def test_an_answer_without_a_file_is_an_error(status: int) -> None:
    # As httpx2 leaves a redirect whose address it cannot read.
    answer = httpx2.Response(
        status, headers={"Location": "http://[::1/y"}, request=httpx2.Request("GET", "http://hub.example/a")
    )
    with pytest.raises(HubError, match=f"hub.example answered {status} and no file"):
        request_module.raise_final_refusal(answer)


def test_an_unreachable_hub_is_a_network_error(downloader: Downloader, repo: LockedRepo) -> None:
    nowhere = replace(downloader, endpoint="http://127.0.0.1:9")
    with pytest.raises(NetworkError):
        nowhere.download(repo, file_of(repo, "config.json"))


def test_a_proxy_that_refuses_is_named(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.utils import close_session

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    close_session()
    try:
        with pytest.raises(NetworkError, match="HTTP_PROXY"):
            replace(downloader, endpoint="http://hub.invalid").download(repo, file_of(repo, "config.json"))
    finally:
        monkeypatch.delenv("HTTP_PROXY")
        close_session()


def test_a_download_that_is_told_to_stop_keeps_what_came(
    downloader: Downloader, repo: LockedRepo, hub: RunningHub
) -> None:
    file = file_of(repo, "sub dir/model.safetensors")

    def stop_soon(count: int) -> None:
        control.stop.set()

    control = Control(on_received=stop_soon)
    with pytest.raises(StoppedError):
        replace(downloader, control=control).download(repo, file)
    assert downloader.store.partial_bytes(file.etag, file.size_bytes) > 0
