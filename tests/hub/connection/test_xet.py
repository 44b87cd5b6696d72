"""Files in Xet storage: through hf_xet from a small storage on loopback, and over HTTP where that does not work."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Timer

import pytest
from huggingface_hub import constants
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bundler.hub.connection import xet
from bundler.make.download.download import Downloader
from bundler.make.download.request import Control, StoppedError
from bundler.make.store import Store
from bundler.plan.lock import LockedFile, LockedRepo
from bundler.serve.server import create_app
from bundler.serve.sources import open_source
from tests.support.hub import RunningHub
from tests.support.remote import locked, write_repo

pytest.importorskip("hf_xet")

BIG = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(200_000)
_CHUNK_BYTES = 65_536


def xorb(content: bytes) -> bytes:
    """Return `content` as the storage keeps it: chunks without compression, each with a header of eight bytes."""
    parts = [content[i : i + _CHUNK_BYTES] for i in range(0, len(content), _CHUNK_BYTES)]
    return b"".join(
        b"\x00" + len(part).to_bytes(3, "little") + b"\x00" + len(part).to_bytes(3, "little") + part
        for part in parts
    )


@dataclass
class XetHub:
    """A Hub whose LFS files are in Xet storage, and the storage itself, at the same address or another.

    Attributes:
        app: The Hub without it.
        contents: Name on the Hub -> what the storage has.
        storage: Its address; None for this server.
        token_status: How the Hub answers who asks for a token.
    """

    app: ASGIApp
    contents: dict[str, bytes]
    storage: str | None = None
    token_status: int = 200
    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        host = next(value.decode() for name, value in scope["headers"] if name == b"host")
        here = f"http://{host}"
        if path == "/token":
            self.asked.append("token")
            fields = {"x-xet-cas-url": self.storage or here, "x-xet-access-token": "t"}
            await _answer(send, self.token_status, b"{}", {**fields, "x-xet-token-expiration": "9999999999"})
        elif "/reconstructions/" in path:
            await self._reconstruct(path, here, send)
        elif path.startswith("/xorb/"):
            body = xorb(self.contents[path.removeprefix("/xorb/")])
            await _answer(send, 206, body, {"content-range": f"bytes 0-{len(body) - 1}/{len(body)}"})
        else:
            await self.app(scope, receive, self._mark(path, here, send))

    def _mark(self, path: str, here: str, send: Send) -> Send:
        name = path.rpartition("/")[2]

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start" and "/resolve/" in path and name in self.contents:
                number = f"{[*self.contents].index(name):02x}" * 32
                message["headers"] = [
                    *message["headers"],
                    (b"x-xet-hash", number.encode()),
                    (b"x-xet-refresh-route", f"{here}/token".encode()),
                ]
            await send(message)

        return marked

    async def _reconstruct(self, path: str, here: str, send: Send) -> None:
        if "/v1/" not in path:
            await _answer(send, 404, b"")
            return
        name = [*self.contents][int(path[-2:], 16)]
        self.asked.append(name)
        content = self.contents[name]
        chunks = {"start": 0, "end": -(-len(content) // _CHUNK_BYTES)}
        key = "cd" * 32
        where = {
            "range": chunks,
            "url": f"{here}/xorb/{name}",
            "url_range": {"start": 0, "end": len(xorb(content)) - 1},
        }
        plan = {
            "offset_into_first_range": 0,
            "terms": [{"hash": key, "unpacked_length": len(content), "range": chunks}],
            "fetch_info": {key: [where]},
        }
        await _answer(send, 200, json.dumps(plan).encode())


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    fields = {**(headers or {}), "content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Place:
    """The Hub, what it serves, and a downloader with a record of its notes and counts."""

    hub: RunningHub
    app: XetHub
    repo: LockedRepo
    store: Store
    stop: Event = field(default_factory=Event)
    notes: list[str] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)

    def downloader(self) -> Downloader:
        return Downloader(
            store=self.store,
            endpoint=self.hub.endpoint,
            control=Control(stop=self.stop, on_progress=self.counted.append, on_received=self.received.append),
            on_note=self.notes.append,
        )

    def file(self, name: str) -> LockedFile:
        return next(file for file in self.repo.files if file.path == name)

    def has(self, name: str, content: bytes) -> bool:
        return self.store.path(self.file(name).etag).read_bytes() == content


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    files = {"config.json": b"{}", "model.safetensors": BIG, "other.safetensors": OTHER}
    write_repo(tmp_path / "repos" / "org" / "m", files)
    app = XetHub(
        create_app(open_source(tmp_path / "repos")), {"model.safetensors": BIG, "other.safetensors": OTHER}
    )
    # Its chunk cache would answer for the storage.
    monkeypatch.setenv("HF_XET_CHUNK_CACHE_SIZE_BYTES", "0")
    with RunningHub(app) as hub:
        yield Place(hub, app, locked(hub.endpoint, "org/m"), Store(tmp_path / "store"))


def test_a_file_comes_through_hf_xet_with_its_bytes_counted(place: Place) -> None:
    blob = place.downloader().download(place.repo, place.file("model.safetensors"))
    assert place.has("model.safetensors", BIG) and blob is not None and blob.size_bytes == len(BIG)
    assert place.app.asked == ["token", "model.safetensors"] and place.notes == []
    assert sum(place.counted) == len(BIG) and sum(place.received) == len(xorb(BIG))
    assert place.hub.asked("GET", "/resolve/main/model.safetensors") == []


def test_a_mirror_that_has_no_tokens_is_asked_once_and_files_come_over_http(place: Place) -> None:
    place.app.token_status = 404
    downloader = place.downloader()
    for name in ("model.safetensors", "other.safetensors"):
        downloader.download(place.repo, place.file(name))
    assert place.has("model.safetensors", BIG) and place.has("other.safetensors", OTHER)
    (note,) = place.notes
    assert (
        note.startswith("Xet storage failed: ") and "404" in note and note.endswith("fetching over HTTP instead")
    )
    assert place.app.asked == ["token"]
    assert sum(place.counted) == sum(place.received) == len(BIG) + len(OTHER)


def test_a_storage_that_takes_no_connection_is_given_up(place: Place) -> None:
    place.app.storage = "http://127.0.0.1:9"
    place.downloader().download(place.repo, place.file("model.safetensors"))
    assert place.has("model.safetensors", BIG)
    assert place.notes == [
        "Xet storage at 127.0.0.1:9 cannot be reached: Connection refused; fetching over HTTP instead"
    ]


def test_a_proxy_that_refuses_the_storage_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.app.storage = "http://storage.invalid:8080"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    place.downloader().download(place.repo, place.file("model.safetensors"))
    (note,) = place.notes
    assert (
        "at storage.invalid:8080, through the proxy http://127.0.0.1:9 (from HTTP_PROXY), cannot be reached"
        in note
    )


def test_a_storage_that_hangs_is_given_up_after_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xet, "SILENT_SECONDS", 1.0)
    # The kernel takes connections that nobody answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place.app.storage = f"http://127.0.0.1:{silent.getsockname()[1]}"
        place.downloader().download(place.repo, place.file("model.safetensors"))
    assert place.has("model.safetensors", BIG)
    assert place.notes == ["Xet storage sent nothing for 1 s; fetching over HTTP instead"]


def test_content_that_came_damaged_comes_again_over_http(place: Place) -> None:
    place.app.contents["model.safetensors"] = BIG[:-1] + b"?"
    downloader = place.downloader()
    downloader.download(place.repo, place.file("model.safetensors"))
    assert place.has("model.safetensors", BIG) and "arrived damaged from Xet storage" in place.notes[0]
    # The storage works: it is asked for the next file.
    downloader.download(place.repo, place.file("other.safetensors"))
    assert place.app.asked[-1] == "other.safetensors" and sum(place.counted) == len(BIG) + len(OTHER)


def test_a_download_that_is_told_to_stop_does_not_wait_for_the_storage(place: Place) -> None:
    # The kernel takes connections that nobody answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place.app.storage = f"http://127.0.0.1:{silent.getsockname()[1]}"
        timer = Timer(0.5, place.stop.set)
        timer.start()
        with pytest.raises(StoppedError):
            place.downloader().download(place.repo, place.file("model.safetensors"))
        timer.join()
    assert place.notes == [] and not place.store.path(place.file("model.safetensors").etag).exists()


def test_it_is_not_asked_where_it_is_switched_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    place.downloader().download(place.repo, place.file("model.safetensors"))
    assert place.has("model.safetensors", BIG) and place.app.asked == []
