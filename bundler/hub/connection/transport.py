"""Receive the content of files for little CPU: an httpx2 transport on the standard library's `http.client`.

The transport that httpx2 has copies each piece several times on its way through h11, in Python: 1.8 to 2.8 s of CPU for
a GB, more than all that is done with the bytes afterwards. Here they are received into a buffer, 0.3 s. All else is
httpx2's as before: addresses, redirects and what goes along with them, cookies, errors.

Rule book:

* only what asks for files goes this way, never a question to the Hub's API; `find_client` decides for each address.
  Through a proxy, and where the user gave huggingface_hub a client of their own, theirs is used;
* certificates are checked as httpx2 checks them, SSL_CERT_FILE included;
* a connection belongs to one answer at a time. It is kept for the next only where the answer was read to its end, and
  asked anew where a server has closed it meanwhile: GET may be repeated (RFC 9110, section 9.2.2);
* an answer that ends before its Content-Length is an error, and no more than that is read;
* what is yielded is overwritten by what is received next.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx2
from huggingface_hub.utils import _http, get_session

from bundler.hub.connection.bounded_answer import BoundedAnswer
from bundler.hub.connection.idle import IdleConnections
from bundler.hub.connection.proxies import proxy_for

_BLOCK_BYTES = 512 << 10
# What has arrived is handed over after so long, if it is no whole block: a slow line is written down as it comes.
_BLOCK_SECONDS = 0.1
_Origin = tuple[str, str, int]


def find_client(address: str) -> httpx2.Client:
    """Return the client for a file at an address: huggingface_hub's session, or one that costs less."""
    session = get_session()
    # Not public; where it is gone the session does as well.
    is_plain = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None) is getattr(_http, "default_client_factory", session)
    if not is_plain or proxy_for(address) is not None:
        return session
    return _own_client()


@cache
def _own_client() -> httpx2.Client:
    # The hooks refuse while HF_HUB_OFFLINE is set.
    return httpx2.Client(transport=LeanTransport(), event_hooks=get_session().event_hooks, timeout=None)


class LeanTransport(httpx2.BaseTransport):
    """Sends GET requests over connections of its own; safe to use from several threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._idle: IdleConnections[_Origin] = IdleConnections()
        self._tls: ssl.SSLContext | None = None
        # A child's bytes would come between ours.
        os.register_at_fork(after_in_child=self._forget)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the answer, of which nothing was read.

        Raises:
            httpx2.TransportError: It cannot be sent, or nothing that is HTTP comes back.
        """
        if request.method != "GET" or request.url.scheme not in ("http", "https"):
            raise httpx2.UnsupportedProtocol(
                f"expected GET of http or https, found {request.method} {request.url}"
            )
        url, times = request.url, request.extensions.get("timeout", {})
        origin = (url.scheme, url.host, url.port or {"http": 80, "https": 443}[url.scheme])
        while True:
            kept = self._take(origin)
            connection = kept or self._connect(origin, times.get("connect"))
            try:
                return self._ask(connection, origin, request, times.get("read"))
            except httpx2.TransportError as error:
                connection.close()
                # A server may close what was kept at any time: that tells nothing of the next one.
                if kept is None or isinstance(error, httpx2.TimeoutException):
                    raise
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Close all connections that no answer has."""
        self._idle.close()

    def _forget(self) -> None:
        self._mutex = threading.Lock()
        self._idle.forget()

    def _take(self, origin: _Origin) -> http.client.HTTPConnection | None:
        while (connection := self._idle.take(origin)) is not None:
            # Nothing was asked: what can be read is the end, or no answer to us.
            if _is_silent(connection.sock):
                return connection
            connection.close()
        return None

    def _connect(self, origin: _Origin, seconds: float | None) -> http.client.HTTPConnection:
        scheme, host, port = origin
        connection = http.client.HTTPConnection(host, port)
        connection.response_class = BoundedAnswer
        try:
            sock = socket.create_connection((host, port), timeout=seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme == "https":
                sock = self._context().wrap_socket(sock, server_hostname=host)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error)) from error
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(str(error)) from error
        connection.sock = sock
        return connection

    def _context(self) -> ssl.SSLContext:
        with self._mutex:
            if self._tls is None:
                self._tls = httpx2.create_ssl_context()
                self._tls.set_alpn_protocols(["http/1.1"])
            return self._tls

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        origin: _Origin,
        request: httpx2.Request,
        seconds: float | None,
    ) -> httpx2.Response:
        connection.sock.settimeout(seconds)
        with _as_httpx2():
            target = request.url.raw_path.decode("ascii")
            connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.raw:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
        if answer.status < 200:
            raise httpx2.RemoteProtocolError(f"the server answered {answer.status}, which is no answer")
        body = _Body(answer, connection, lambda: self._idle.give_back(origin, connection))
        return httpx2.Response(
            answer.status,
            # As they came: they may hold what is no ASCII.
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.getheaders()],
            stream=body,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason.encode("latin-1")},
        )


class _Body(httpx2.SyncByteStream):
    """What comes after the head of an answer.

    Args:
        answer: The answer, of which the head was read.
        connection: Where it comes from.
        give_back: Called when the connection can be used again.
    """

    def __init__(
        self,
        answer: http.client.HTTPResponse,
        connection: http.client.HTTPConnection,
        give_back: Callable[[], None],
    ) -> None:
        self._answer, self._connection, self._give_back = answer, connection, give_back
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx2():
            answer = self._answer
            yield from self._blocks_of_length() if answer.length is not None else self._pieces()

    def close(self) -> None:
        """Give the connection back, if the answer was read to its end; else close it."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._answer.isclosed() and not self._answer.will_close:
            self._give_back()
        else:
            # The answer holds the socket open too.
            self._answer.close()
            self._connection.close()

    def _blocks_of_length(self) -> Iterator[Any]:
        left = self._answer.length or 0
        buffer = memoryview(bytearray(min(_BLOCK_BYTES, left)))
        if not left:
            self._note_end()
        while left:
            filled, broken = 0, None
            begin = time.monotonic()
            while left and filled < len(buffer) and time.monotonic() - begin <= _BLOCK_SECONDS:
                try:
                    count = self._receive(buffer[filled:][:left], left)
                except (OSError, httpx2.RemoteProtocolError) as error:
                    # What has arrived counts all the same.
                    broken = error
                    break
                filled, left = filled + count, left - count
            if not left:
                # Now: who has all that was wanted does not ask for more.
                self._note_end()
            if filled:
                yield buffer[:filled]
            if broken is not None:
                raise broken

    def _note_end(self) -> None:
        # The library notices that this was all, and that the connection can be used again.
        self._answer.length = 0
        self._answer.readinto(bytearray())

    def _receive(self, buffer: memoryview, left: int) -> int:
        # The library's own reading fills the whole buffer, however slowly that comes.
        if count := self._answer.fp.readinto1(buffer):
            return count
        raise httpx2.RemoteProtocolError(f"the connection ended {left:,} bytes early")

    def _pieces(self) -> Iterator[bytes]:
        """Yield what comes in chunks, or up to the end of the connection."""
        while piece := self._answer.read1(_BLOCK_BYTES):
            yield piece


def _is_silent(sock: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return not waiting.poll(0)


@contextlib.contextmanager
def _as_httpx2() -> Iterator[None]:
    """Raise what the standard library does as what httpx2 would."""
    try:
        yield
    except TimeoutError as error:
        raise httpx2.ReadTimeout(str(error)) from error
    except http.client.HTTPException as error:
        raise httpx2.RemoteProtocolError(str(error) or type(error).__name__) from error
    except OSError as error:
        raise httpx2.ReadError(str(error)) from error
    except ValueError as error:
        # A header that may not be sent.
        raise httpx2.LocalProtocolError(str(error)) from error
