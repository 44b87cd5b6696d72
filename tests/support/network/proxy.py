"""Real proxies on loopback: one that lets requests through, and those that stand in the way."""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Behaviour = Literal["works", "refuses", "hangs", "wants a password", "hangs up"]


class Proxy:
    """A forward proxy (plain requests and CONNECT), for as long as the `with` block lasts.

    Attributes:
        asked: What it was asked for so far; here, request lines.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.asked: list[str] = []
        self.over = threading.Event()
        self._server = ProxyServer(("127.0.0.1", 0), self.handler())
        self._server.proxy = self

    def handler(self) -> type[socketserver.BaseRequestHandler]:
        """Return what speaks with a client."""
        return _Handler

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """What goes into HTTP_PROXY."""
        return f"http://{self.address}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class ProxyServer(socketserver.ThreadingTCPServer):
    """Listens for a proxy; its handlers find that under `proxy`."""

    daemon_threads = True
    proxy: Proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of these tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ProxyServer

    def log_message(self, *words: object) -> None: ...

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        proxy = self.server.proxy
        proxy.asked.append(self.requestline)
        if proxy.behaviour == "works":
            return True
        if proxy.behaviour == "hangs":
            proxy.over.wait()
        elif proxy.behaviour == "refuses":
            self._answer(403, "Forbidden")
        elif proxy.behaviour == "wants a password":
            self._answer(407, "Proxy Authentication Required")
        self.close_connection = True
        return False

    def _answer(self, status: int, reason: str) -> None:
        self.wfile.write(f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as remote:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(remote, self.connection), daemon=True)
            back.start()
            pump(self.connection, remote)
            back.join(timeout=60)
        self.close_connection = True

    def _forward(self) -> None:
        target = urlsplit(self.path)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "proxy-connection"}
        path = f"{target.path or '/'}{f'?{target.query}' if target.query else ''}"
        with contextlib.closing(connection):
            connection.request(self.command, path, headers=headers)
            response = connection.getresponse()
            content = response.read()
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = _forward


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy what comes from one connection to the other, to its end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
