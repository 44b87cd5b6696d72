"""A server of one file on loopback whose answers to ranges a test decides, behind a Hub that redirects to it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Asked:
    """What the origin of the content was asked.

    Attributes:
        number: 0 for the first request.
        key: The signed part of its address.
        range: First and last byte; None for all.
        headers: By lower-case name.
    """

    number: int
    key: str
    range: tuple[int, int] | None
    headers: dict[str, str]


@dataclass
class Answer:
    """How the origin answers one request; the fields are what a faultless one does.

    Attributes:
        content: What the ranges are of.
        status: Of the answer; None for 206 to a range, and 200 without one.
        headers: More, or others.
        after_bytes: End the connection after so many bytes of the body.
        seconds: Wait before the body.
    """

    content: bytes
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after_bytes: int | None = None
    seconds: float = 0.0


class RangedOrigin:
    """Two servers: a Hub that redirects every file to the other, and the origin of the content.

    Args:
        decide: Returns the answer to a request.

    Attributes:
        asked: Requests to the origin so far.
        resolved: How often the Hub was asked where the file is.
        tokens: What it was shown each time.
    """

    def __init__(self, decide: Callable[[Asked], Answer]) -> None:
        self.asked: list[Asked] = []
        self.resolved = 0
        self.tokens: list[str | None] = []
        self._decide = decide
        self._mutex = threading.Lock()
        self._servers = [
            _Server(("127.0.0.1", 0), _handler(answer)) for answer in (self._redirect, self._send_content)
        ]

    def __enter__(self) -> Self:
        for server in self._servers:
            # The poll is how long `shutdown` takes.
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        """The Hub's address."""
        return f"http://127.0.0.1:{self._servers[0].server_address[1]}"

    def _redirect(self, handler: BaseHTTPRequestHandler) -> None:
        with self._mutex:
            self.resolved += 1
            self.tokens.append(handler.headers.get("Authorization"))
            key = str(self.resolved)
        handler.send_response(302)
        handler.send_header("Location", f"http://localhost:{self._servers[1].server_address[1]}/file?key={key}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def _send_content(self, handler: BaseHTTPRequestHandler) -> None:
        found = _RANGE.fullmatch(handler.headers.get("Range", ""))
        wanted = (int(found[1]), int(found[2] or -1)) if found else None
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._mutex:
            asked = Asked(len(self.asked), handler.path.rpartition("=")[2], wanted, headers)
            self.asked.append(asked)
        answer = self._decide(asked)
        status = answer.status or (206 if wanted else 200)
        body = answer.content if status < 400 else b""
        more = {"ETag": '"one"'}
        if status == 206 and wanted:
            first, last = wanted[0], min(wanted[1] % len(body), len(body) - 1)
            more["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body = body[first : last + 1]
        handler.send_response(status)
        for name, value in {**more, "Content-Length": str(len(body)), **answer.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        time.sleep(answer.seconds)
        handler.wfile.write(body[: answer.after_bytes])
        if answer.after_bytes is not None:
            handler.close_connection = True


class _Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


def _handler(answer: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self)

    return Handler
