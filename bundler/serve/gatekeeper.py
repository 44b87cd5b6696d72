"""Who is answered at all: a request for a name that is served here, with the token if there is one.

Rule book:

* a web page that a browser on this machine shows can send requests here under a name of its own (DNS rebinding), and so
  a request for a name that was not given is refused. An address is no name;
* the token is compared in constant time, before anything is looked up.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from bundler.errors import UsageError
from bundler.serve import responses

_MOST_TOKEN_BYTES = 4096


def read_token(path: Path) -> str:
    """Return the token that a file holds in its only line.

    Raises:
        UsageError: It holds none that fits into a header.
    """
    text = path.read_bytes()[: _MOST_TOKEN_BYTES + 1].decode("ascii", "replace").strip()
    if not 16 <= len(text) <= _MOST_TOKEN_BYTES or not text.isprintable() or " " in text or "\ufffd" in text:
        raise UsageError(
            f"--token-file {path}: expected one line of 16 to {_MOST_TOKEN_BYTES} letters, digits and signs",
            hint="for instance: openssl rand -hex 32 > token.txt",
        )
    return text


def own_names(host: str) -> tuple[str, ...]:
    """Return the names of this machine, for a server that others reach; `host` is what it listens on."""
    return tuple({host, socket.gethostname(), socket.getfqdn()})


class Gatekeeper:
    """Passes on the requests that may be answered.

    Args:
        app: What answers them.
        host_names: Names that are served besides localhost and every address; None for all.
        token: What a client must send as its bearer token; None for nothing.
    """

    def __init__(self, app: ASGIApp, *, host_names: Iterable[str] | None = (), token: str | None = None) -> None:
        self._app = app
        self._names = None if host_names is None else {"localhost", *(name.lower() for name in host_names)}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1")
            if not self._serves(host):
                message = (
                    "this Hub does not serve the host name of this request; `bundle serve --host-name` adds one"
                )
                await responses.error_response(421, message)(scope, receive, send)
                return
            given = headers.get(b"authorization", b"").removeprefix(b"Bearer ").strip()
            if self._token is not None and not hmac.compare_digest(given, self._token.encode()):
                message = "this Hub needs the token that its operator has given out (HF_TOKEN)"
                extra = {"WWW-Authenticate": "Bearer"}
                await responses.error_response(401, message, headers=extra)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _serves(self, host: str) -> bool:
        if self._names is None or not host:
            # Browsers, which are what a name is looked at for, always send one.
            return True
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
        name = name.strip("[]").rstrip(".").lower()
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
