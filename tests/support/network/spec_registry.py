"""A registry in memory that does what Debian's cannot: go on with uploads, list referrers, ask for tokens.

By the OCI distribution specification 1.1, and docker's token authentication.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.network.loopback import LoopbackServer


class SpecRegistry(LoopbackServer):
    """A registry while the block runs.

    Attributes:
        blobs, manifests: Digest, or tag, -> content; of all repositories together.
        uploads: Session -> what of it has come.
        received_bytes: Of blobs, all together.
        user: ``USER:PASSWORD`` that tokens are given out for; empty for a registry that asks for none.
        token: The token that is good now.
        busy: How many uploads it is taking at this moment.
        requests: (method, path, Authorization) of each request.
        troubles: What to answer questions about sessions with, one after the other: a status, or None to hang up.
        location: Where uploads are sent to, instead of here.
        token_leads_to: Where who asks for a token is sent to, instead of being given one.
    """

    def __init__(self, user: str = "") -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.received_bytes = 0
        self.busy = 0
        self.user = user
        self.token = "token-1"
        self.requests: list[tuple[str, str, str]] = []
        self.troubles: list[int | None] = []
        self.location = ""
        self.token_leads_to = ""
        super().__init__(type("Bound", (_Handler,), {"registry": self}))

    def address(self, name: str = "models/tiny:1") -> str:
        """The address of something in it."""
        return f"oci://{self.host}/{name}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    registry: SpecRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/token":
            self._give_token()
            return
        if not self._may_enter():
            return
        if found := re.search(r"/blobs/uploads/([^/]+)$", path):
            if self.registry.troubles and (offset := self.registry.uploads.get(found[1])):
                assert offset, "something has come"
                if (trouble := self.registry.troubles.pop(0)) is None:
                    self.close_connection = True
                else:
                    self._answer(trouble)
                return
            session = self.registry.uploads.get(found[1])
            if session is None:
                self._answer(404)
            else:
                self._answer(204, Location=path, Range=f"0-{max(len(session) - 1, 0)}")
        elif found := re.search(r"/referrers/(sha256:.*)$", path):
            self._answer(200, json.dumps(_list_referrers(self.registry, found[1])).encode())
        elif found := re.search(r"/(blobs|manifests)/([^/]+)$", path):
            content = (self.registry.blobs if found[1] == "blobs" else self.registry.manifests).get(found[2])
            self._give(content)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._read()
        if urlsplit(self.path).path == "/token":
            self._answer(307, Location=self.registry.token_leads_to)
        elif self._may_enter():
            session = uuid.uuid4().hex
            self.registry.uploads[session] = bytearray()
            self._answer(202, Location=self.registry.location or f"{urlsplit(self.path).path}{session}")

    def do_PATCH(self) -> None:
        if not self._may_enter():
            return
        path = urlsplit(self.path).path
        session = self.registry.uploads[path.rpartition("/")[2]]
        if int(self.headers["Content-Range"].partition("-")[0]) != len(session):
            self._answer(416)
            return
        left = int(self.headers["Content-Length"])
        self.registry.busy += 1
        while left and (block := self.rfile.read1(min(left, 1 << 16))):
            session += block
            self.registry.received_bytes += len(block)
            left -= len(block)
        self.registry.busy -= 1
        if left:
            self.close_connection = True
        else:
            self._answer(202, Location=path)

    def do_PUT(self) -> None:
        content = self._read()
        if not self._may_enter():
            return
        parts = urlsplit(self.path)
        name = parts.path.rpartition("/")[2]
        if "/manifests/" in parts.path:
            self.registry.manifests[name] = self.registry.manifests[_digest(content)] = content
            subject = json.loads(content).get("subject")
            headers = {"OCI-Subject": subject["digest"]} if subject else {}
            self._answer(201, **headers)
            return
        whole = bytes(self.registry.uploads.pop(name)) + content
        [digest] = parse_qs(parts.query)["digest"]
        if _digest(whole) == digest:
            self.registry.blobs[digest] = whole
        self._answer(201 if _digest(whole) == digest else 400)

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _may_enter(self) -> bool:
        shown = self.headers.get("Authorization", "")
        self.registry.requests.append((self.command, self.path, shown))
        if self.registry.user and shown != f"Bearer {self.registry.token}":
            realm = f'Bearer realm="http://{self.registry.host}/token",service="test",scope="repository:x:pull"'
            self._answer(401, **{"WWW-Authenticate": realm})
            return False
        return True

    def _give_token(self) -> None:
        login = base64.b64encode(self.registry.user.encode()).decode()
        if self.headers.get("Authorization") != f"Basic {login}":
            self._answer(401, **{"WWW-Authenticate": 'Basic realm="test"'})
        else:
            self._answer(200, json.dumps({"token": self.registry.token}).encode())

    def _give(self, content: bytes | None) -> None:
        if content is None:
            self._answer(404)
            return
        found = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", self.headers.get("Range", ""))
        if found is None:
            self._answer(200, content)
            return
        part = content[int(found[1]) : int(found[2]) + 1]
        told = f"bytes {found[1]}-{int(found[1]) + len(part) - 1}/{len(content)}"
        self._answer(206, part, **{"Content-Range": told})

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _list_referrers(registry: SpecRegistry, digest: str) -> dict[str, Any]:
    listed = []
    for name, content in registry.manifests.items():
        value = json.loads(content)
        if name.startswith("sha256:") and (value.get("subject") or {}).get("digest") == digest:
            listed.append(
                {
                    "mediaType": value["mediaType"],
                    "digest": name,
                    "size": len(content),
                    "artifactType": value["artifactType"],
                    "annotations": value.get("annotations", {}),
                }
            )
    return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": listed}
