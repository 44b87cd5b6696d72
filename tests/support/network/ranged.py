"""A web server on loopback that has ranges, and does with them whatever a test wants: ignore, break, change, lie."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.network.loopback import LoopbackServer

_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")


class Request:
    """A request that came in.

    Attributes:
        path: Its path, with its query.
        headers: By lower-case name.
        client: The connection's other end.
        first, last: The range that it asks for; (0, None) for all.
    """

    def __init__(self, path: str, headers: dict[str, str], client: tuple[str, int] = ("", 0)) -> None:
        self.path, self.headers, self.client = path, headers, client
        found = _RANGE.fullmatch(headers.get("range", ""))
        self.is_ranged = found is not None
        self.first = int(found[1]) if found else 0
        self.last = int(found[2]) if found and found[2] else None


class RangedServer(LoopbackServer):
    """Serves `files` while the block runs.

    Attributes:
        files: Path -> content.
        requests: What was asked, oldest first.
        sent_bytes: Content that was sent, all answers together.
        ignores_ranges: Answer every range with all of it.
        etag: The entity tag of everything; empty for none.
        total: Length to tell in Content-Range; None for the true one.
        breaks: Called with each request; returns after how many bytes of content the connection breaks, or None.
        status: Called with each request; returns a status to answer with instead, or None.
        redirects: Path -> where it leads to.
        encoding: What is said of the form of the content.
        drips: Send byte by byte.
        length: What Content-Length says instead of the truth; "" to say nothing of it, and send chunks.
        holds: Called with each request; returns after how many bytes of content to wait for `released`, or None.
        login: What Authorization must be; empty for anybody.
        before_put: Called with the path before what is put there is kept; may wait, and may raise to break off.
        refuses: What PUT and POST are answered with before their content is read; 0 for reading it.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.requests: list[Request] = []
        self.sent_bytes = 0
        self.ignores_ranges = False
        self.etag = '"1"'
        self.total: int | str | None = None
        self.breaks: Callable[[Request], int | None] = lambda request: None
        self.status: Callable[[Request], int | None] = lambda request: None
        self.redirects: dict[str, str] = {}
        self.login = ""
        self.refuses = 0
        self.before_put: Callable[[str], None] = lambda path: None
        self.drips = False
        self.length: str | None = None
        self.encoding = ""
        self.holds: Callable[[Request], int | None] = lambda request: None
        self.released = threading.Event()
        self._mutex = threading.Lock()
        super().__init__(type("Bound", (_Handler,), {"web": self}))

    def count(self, sent_bytes: int) -> None:
        with self._mutex:
            self.sent_bytes += sent_bytes


class _Handler(BaseHTTPRequestHandler):
    web: RangedServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        request = Request(
            self.path, {name.lower(): value for name, value in self.headers.items()}, self.client_address
        )
        self.web.requests.append(request)
        path = request.path.partition("?")[0]
        content = self.web.files.get(path)
        if self.web.login and request.headers.get("authorization") != self.web.login:
            self._refuse(401)
        elif (status := self.web.status(request)) is not None:
            self._refuse(status)
        elif path in self.web.redirects:
            self._refuse(307, {"Location": self.web.redirects[path]})
        elif content is None:
            self._refuse(404)
        else:
            self._send(request, content)

    def do_PUT(self) -> None:
        if self.web.refuses:
            self._refuse(self.web.refuses, {"Location": f"{self.web.url}/elsewhere", "Connection": "close"})
            return
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.web.login and self.headers.get("Authorization") != self.web.login:
            self._refuse(401)
            return
        path = self.path.partition("?")[0]
        self.web.before_put(path)
        self.web.files[path] = content
        self._refuse(201)

    do_POST = do_PUT

    def _refuse(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, request: Request, content: bytes) -> None:
        is_same = request.headers.get("if-range", self.web.etag) == self.web.etag
        first, last = 0, len(content) - 1
        if request.is_ranged and is_same and not self.web.ignores_ranges:
            first, last = request.first, min(last, request.last if request.last is not None else last)
            if first >= len(content):
                self._refuse(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{self.web.total or len(content)}")
        else:
            self.send_response(200)
        if self.web.encoding:
            self.send_header("Content-Encoding", self.web.encoding)
        if self.web.etag:
            self.send_header("ETag", self.web.etag)
        is_chunked = self.web.length == ""
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", self.web.length or str(last - first + 1))
        self.end_headers()
        body = content[first : last + 1]
        limit = self.web.breaks(request)
        if limit is not None and limit < len(body):
            body = body[:limit]
            self.close_connection = True
        self.web.count(len(body))
        if (held := self.web.holds(request)) is not None:
            self.wfile.write(body[:held])
            self.web.released.wait(60)
            body = body[held:]
        if self.web.drips:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                time.sleep(0.01)
            return
        if is_chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self.wfile.write(body)
