"""The door to the Hub passes everything on as it is, and notes what was asked for."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Scope, Send

from bundler.serve.aside import open_aside
from tests.support.hub import RunningHub

FRONT = "bundler.draft.record.front.process"
COMMIT = b"c" * 40
BIG = bytes(range(256)) * 4000


class Upstream:
    """A Hub that says what it was asked, and whatever a test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.was_left = threading.Event()
        self.address = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        raw = scope["raw_path"].decode() + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], raw, headers, body))
        if scope["path"].endswith("/endless"):
            await self._go_on(receive, send)
            return
        status, more, content = self._answer(scope["path"])
        more = [*more, (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})

    async def _go_on(self, receive: Receive, send: Send) -> None:
        """Send content until the client has gone."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-repo-commit", COMMIT)]})
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": BIG, "more_body": True})
            await asyncio.sleep(0.01)
        self.was_left.set()

    def _answer(self, path: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        here = self.address.encode()
        if path.endswith("/lfs.bin"):
            return 302, [(b"location", b"https://cdn.example/lfs.bin"), (b"x-repo-commit", COMMIT)], b""
        if path.startswith("/old/"):
            return 307, [(b"location", b"/org/new/resolve/main/config.json")], b""
        if path.endswith("/absolute.json"):
            return 307, [(b"location", here + b"/api/absolute")], b""
        if path.endswith("/tree/main"):
            return 200, [(b"link", b"<" + here + b'/api/models/org/a/tree/main?cursor=x>; rel="next"')], b"[]"
        if "xet-read-token" in path:
            return 200, [(b"x-xet-cas-url", b"https://cas.example")], b"{}"
        if path.endswith("/packed.json"):
            return 200, [(b"content-encoding", b"gzip"), (b"x-repo-commit", COMMIT)], gzip.compress(b"{}")
        if path.endswith("/absent.json"):
            return 404, [(b"x-repo-commit", COMMIT), (b"x-error-code", b"EntryNotFound")], b"{}"
        return 200, [(b"x-repo-commit", COMMIT), (b"etag", b'"e"')], BIG


class Front:
    """The door, and what it has noted."""

    def __init__(self, upstream: Upstream, address: str, notes: Path) -> None:
        self.upstream, self.address, self._notes = upstream, address, notes

    def ask(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=30)
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    @property
    def notes(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._notes.read_text().splitlines()]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    upstream = Upstream()
    with RunningHub(upstream) as hub:
        upstream.address = hub.endpoint
        with open_aside(FRONT, hub.endpoint, str(tmp_path / "notes"), what="the door") as address:
            yield Front(upstream, address, tmp_path / "notes")


def test_requests_and_answers_go_through_as_they_are(front: Front) -> None:
    status, headers, content = front.ask(
        "GET", "/org/a%20b/resolve/refs%2Fpr%2F1/x?y=%20", Authorization="Bearer t"
    )
    assert (status, content, headers["etag"]) == (200, BIG, '"e"')
    method, path, asked, _ = front.upstream.asked[0]
    assert (method, path, asked["authorization"]) == (
        "GET",
        "/org/a%20b/resolve/refs%2Fpr%2F1/x?y=%20",
        "Bearer t",
    )
    assert "accept-encoding" not in {name for name in asked if asked[name] != "identity"}
    status, _, content = front.ask("GET", "/org/a/resolve/main/packed.json")
    assert gzip.decompress(content) == b"{}"
    status, headers, content = front.ask("HEAD", "/org/a/resolve/main/x")
    assert (status, headers["content-length"], content) == (200, str(len(BIG)), b"")
    front.ask("POST", "/api/models/org/a/paths-info/main", body=b'{"paths": []}')
    assert front.upstream.asked[-1][3] == b'{"paths": []}'


def test_files_that_are_there_are_noted_by_the_name_revision_and_commit(front: Front) -> None:
    front.ask("HEAD", "/org/a/resolve/refs%2Fpr%2F1/x.json", **{"User-Agent": "unknown; hf_hub/2.4.0"})
    front.ask("GET", "/datasets/squad/resolve/main/a%20b/c.json", **{"User-Agent": "u; hf-hub/0.4; rust/unknown"})
    front.ask("GET", "/org/a/resolve/main/absent.json", **{"User-Agent": "curl/8.5.0"})
    files = [
        (note["repo_type"], note["repo_id"], note["revision"], note["path"], note["commit"])
        for note in front.notes
        if note["kind"] == "file"
    ]
    assert files == [
        ("model", "org/a", "refs/pr/1", "x.json", COMMIT.decode()),
        ("dataset", "squad", "main", "a b/c.json", COMMIT.decode()),
    ]
    assert not [note for note in front.notes if note["kind"] == "http"]
    front.ask("GET", "/org/a/resolve/main/x.json", **{"User-Agent": "curl/8.5.0"})
    assert [note["client"] for note in front.notes if note["kind"] == "http"] == ["curl/8.5.0"]


def test_what_follows_a_redirect_comes_back_to_the_door_unless_it_leads_elsewhere(front: Front) -> None:
    def location(path: str) -> str:
        return str(front.ask("GET", path)[1]["location"])

    assert location("/org/a/resolve/main/lfs.bin") == "https://cdn.example/lfs.bin"
    assert location("/old/name/resolve/main/config.json") == "/org/new/resolve/main/config.json"
    assert location("/org/a/absolute.json") == f"{front.address}/api/absolute"
    link = front.ask("GET", "/api/models/org/a/tree/main")[1]["link"]
    assert link == f'<{front.address}/api/models/org/a/tree/main?cursor=x>; rel="next"'
    front.ask("GET", "/api/models/org/a/xet-read-token/main")
    assert [note["host"] for note in front.notes if note["kind"] == "hub_host"] == ["cdn.example", "cas.example"]
    renamed = [note for note in front.notes if note["kind"] == "file" and note["repo_id"] == "old/name"]
    assert [(note["path"], note["commit"]) for note in renamed] == [("", "")]


def test_a_hub_that_is_not_there_is_an_error_for_the_client(tmp_path: Path) -> None:
    with open_aside(FRONT, "http://127.0.0.1:9", str(tmp_path / "notes"), what="the door") as address:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
        connection.request("GET", "/org/a/resolve/main/x")
        answer = connection.getresponse()
        assert answer.status == 502
        assert "could not be asked" in json.loads(answer.read())["error"]
        connection.close()
    assert "could not be asked" in (tmp_path / "notes").read_text()


def test_nothing_is_downloaded_for_a_client_that_has_gone(front: Front) -> None:
    with socket.create_connection((urlsplit(front.address).hostname, urlsplit(front.address).port), 30) as client:
        client.sendall(b"GET /org/a/resolve/main/endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(100)
    assert front.upstream.was_left.wait(timeout=60)
