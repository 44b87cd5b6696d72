"""Ask a SOCKS5 proxy whether it connects to the Hub (RFC 1928, RFC 1929)."""

from __future__ import annotations

import importlib.util
import socket
from urllib.parse import SplitResult, unquote, urlsplit

_VERSION = 5
_NO_LOGIN, _PASSWORD, _NONE = 0x00, 0x02, 0xFF
_CONNECT, _BY_NAME = 1, 3
_GRANTED = 0
# Reply codes, RFC 1928, section 6.
_REASONS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


def missing_package() -> str | None:
    """Return which package is missing for SOCKS proxies, as the end of a sentence; None if none is."""
    if importlib.util.find_spec("socksio"):
        return None
    return "cannot be used: the package socksio is not installed (pip install socksio)"


def socks5_fault(connection: socket.socket, proxy: SplitResult, endpoint: str) -> str | None:
    """Ask a SOCKS5 proxy for a connection to the Hub.

    Args:
        connection: An open connection to the proxy.
        proxy: Its address, with user and password if it wants them.
        endpoint: The Hub's address.

    Returns:
        What is wrong, as the end of a sentence that begins with the proxy; None if it connects.

    Raises:
        OSError: The connection broke, or timed out.
    """
    login = unquote(proxy.username or "").encode(), unquote(proxy.password or "").encode()
    methods = bytes([_NO_LOGIN, _PASSWORD] if proxy.username else [_NO_LOGIN])
    connection.sendall(bytes([_VERSION, len(methods)]) + methods)
    answer = _receive(connection, 2)
    if len(answer) < 2 or answer[0] != _VERSION:
        return (
            f"is not a SOCKS5 proxy: it answers {answer!r}"
            if answer
            else "closed the connection without an answer"
        )
    if answer[1] == _NONE:
        return "wants a user name and a password: write them into the variable, socks5://USER:PASSWORD@HOST:PORT"
    if answer[1] == _PASSWORD:
        connection.sendall(b"\1" + b"".join(bytes([len(word)]) + word for word in login))
        if _receive(connection, 2)[1:] != b"\0":
            return "does not accept the user name and password in the variable"

    hub = urlsplit(endpoint)
    host, port = hub.hostname or "", hub.port or (443 if hub.scheme == "https" else 80)
    name = host.encode("idna")
    connection.sendall(
        bytes([_VERSION, _CONNECT, 0, _BY_NAME, len(name)]) + name + port.to_bytes(2, byteorder="big")
    )
    answer = _receive(connection, 2)
    if len(answer) < 2:
        return f"closed the connection when asked for {host}"
    if answer[1] == _GRANTED:
        return None
    return f"refused the connection to {host}: {_REASONS.get(answer[1], f'code {answer[1]}')}"


def _receive(connection: socket.socket, count: int) -> bytes:
    """Return the next `count` bytes; fewer if the connection ends."""
    received = b""
    while len(received) < count and (part := connection.recv(count - len(received))):
        received += part
    return received
