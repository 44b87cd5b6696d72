"""Real SOCKS5 proxies on loopback (RFC 1928): one that connects, and those that stand in the way."""

from __future__ import annotations

import socket
import socketserver
import threading

from tests.support.network.proxy import Proxy, ProxyServer, pump

PASSWORD = b"s@cret"


class SocksProxy(Proxy):
    """A SOCKS5 proxy, for as long as the `with` block lasts; `asked` has the hosts and ports."""

    def handler(self) -> type[socketserver.BaseRequestHandler]:
        """Return what speaks with a client."""
        return _Handler


class _Handler(socketserver.StreamRequestHandler):
    server: ProxyServer

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
