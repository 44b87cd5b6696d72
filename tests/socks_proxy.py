"""Real SOCKS5 proxies on loopback (RFC 1928): one that connects, and those that stand in the way."""

from __future__ import annotations

import socket
import socketserver
import threading
from types import TracebackType
from typing import Literal, Self

from tests.proxy import pump

SocksBehaviour = Literal["works", "refuses", "hangs", "wants a password", "hangs up"]
PASSWORD = b"s@cret"


class SocksProxy:
    """A SOCKS5 proxy, for as long as the `with` block lasts.

    Attributes:
        asked: Hosts and ports that connections were asked for.
    """

    def __init__(self, behaviour: SocksBehaviour) -> None:
        self.behaviour = behaviour
        self.asked: list[str] = []
        self.over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    proxy: SocksProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of these tests."""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        proxy = self.server.proxy
        _, count = self.rfile.read(2)
        methods = self.rfile.read(count)
        if proxy.behaviour == "hangs":
            proxy.over.wait()
        if proxy.behaviour in ("hangs", "hangs up"):
            return
        if proxy.behaviour == "wants a password":
            if 2 not in methods:
                self.wfile.write(b"\x05\xff")
                return
            self.wfile.write(b"\x05\x02")
            _, length = self.rfile.read(2)
            self.rfile.read(length)
            right = self.rfile.read(self.rfile.read(1)[0]) == PASSWORD
            self.wfile.write(b"\x01" + bytes([not right]))
            if not right:
                return
        else:
            self.wfile.write(b"\x05\x00")
        kind = self.rfile.read(4)[3]
        if kind == 3:
            host = self.rfile.read(self.rfile.read(1)[0]).decode()
        else:
            family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, self.rfile.read(length))
        port = int.from_bytes(self.rfile.read(2), "big")
        proxy.asked.append(f"{host}:{port}")
        if proxy.behaviour == "refuses":
            self.wfile.write(b"\x05\x02\x00\x01" + bytes(6))
            return
        with socket.create_connection((host, port), timeout=60) as remote:
            self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=pump, args=(remote, self.connection), daemon=True)
            back.start()
            pump(self.connection, remote)
            back.join(timeout=60)
