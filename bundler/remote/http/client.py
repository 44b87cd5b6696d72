"""Send requests to web servers over connections that stay open, and take answers without copying them.

Rule book:

* a login goes to the origin (scheme, host, port) that it is for, and nowhere else: a redirect to another one is
  followed without it. From https nothing leads to http;
* proxies and NO_PROXY are those of the environment, certificates those of the system or of SSL_CERT_FILE;
* no message holds a query or a header: both may hold a secret;
* connections are kept by origin, and each belongs to one answer at a time.

Why on the standard library: docs/decisions/0009-own-client-for-registries.md.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import ssl
from collections.abc import Iterable, Mapping
from functools import cached_property
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from bundler import __version__
from bundler.errors import NetworkError, RemoteError
from bundler.hub.connection.bounded_answer import BoundedAnswer
from bundler.hub.connection.idle import IdleConnections
from bundler.hub.connection.proxies import Proxy, proxy_for
from bundler.remote.address import show
from bundler.remote.http.answer import BROKEN, Answer, watch_head
from bundler.remote.http.login import Login, NoLogin
from bundler.remote.url import to_ascii

TIMEOUT_SECONDS = 60.0
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
Content = bytes | Iterable[bytes | memoryview]


class Client:
    """Asks web servers; safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: IdleConnections[tuple[str, str]] = IdleConnections()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        paths = ssl.get_default_verify_paths()
        if not (paths.cafile or paths.capath):
            # Comes with huggingface_hub, for systems that have none.
            import certifi

            context.load_verify_locations(certifi.where())
        return context

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        content: Content | None = None,
        login: Login | None = None,
        follow: bool = True,
    ) -> Answer:
        """Send a request, follow redirects, and return the answer, whatever its status.

        Args:
            method: Such as GET.
            url: An http or https address.
            headers: Request headers, which go to every server on the way.
            content: What is sent with it; pieces need a Content-Length among the headers, and are sent once.
            login: Whom to ask as, at the server of `url`.
            follow: Follow redirects.

        Raises:
            OSError, http.client.HTTPException: The connection broke.
            NetworkError: It cannot be made the way that is asked for.
            RemoteError: It leads to where it must not.
        """
        login, url = login or NoLogin(), _check(url)
        first, renewed = origin_of(url), False
        for _ in range(_MOST_REDIRECTS):
            own = dict(login.headers()) if origin_of(url) == first else {}
            answer = self._send_once(method, url, {**(headers or {}), **own}, content)
            if answer.status == 401 and not renewed and origin_of(url) == first and _may_repeat(content):
                renewed = True
                if login.renew(answer.header("WWW-Authenticate")):
                    answer.close()
                    continue
            location = answer.header("Location")
            if not follow or answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            url = find_target(url, location)
        raise RemoteError(f"{show(url)}: more than {_MOST_REDIRECTS} redirects")

    def close(self) -> None:
        """Close all connections that no answer has."""
        self._idle.close()

    def _send_once(self, method: str, url: str, headers: Mapping[str, str], content: Content | None) -> Answer:
        parts = urlsplit(url)
        proxy = proxy_for(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {
            "Host": parts.netloc,
            "User-Agent": f"bundle/{__version__}",
            "Accept-Encoding": "identity",
            **headers,
        }
        if proxy is not None and parts.scheme == "http":
            target = url
            sent |= _proxy_login(proxy)
        while True:
            connection, is_fresh = self._take(parts, proxy)
            try:
                if connection.sock is None:
                    with watch_head(connection, url):
                        connection.connect()
                try:
                    connection.request(method, target, body=content, headers=sent)
                except (BrokenPipeError, ConnectionResetError):
                    if content is not None and (refusal := _read_refusal(connection, url)) is not None:
                        return refusal
                    raise
                return Answer(connection, url, self._give_back)
            except (ConnectionError, http.client.BadStatusLine):
                connection.close()
                # A server may close what was kept at any time: that tells nothing of the next one.
                if is_fresh or not _may_repeat(content):
                    raise
            except BaseException:
                connection.close()
                raise

    def _take(self, parts: SplitResult, proxy: Proxy | None) -> tuple[http.client.HTTPConnection, bool]:
        if (kept := self._idle.take(origin_of(parts.geturl()))) is not None:
            return kept, False
        connection = self._connect(parts, proxy)
        connection.response_class = BoundedAnswer
        return connection, True

    def _connect(self, parts: SplitResult, proxy: Proxy | None) -> http.client.HTTPConnection:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        assert parts.hostname, "addresses are checked"
        if proxy is None:
            if parts.scheme == "http":
                return http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_SECONDS)
            return http.client.HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_SECONDS, context=self._tls)
        through = urlsplit(proxy.url if "://" in proxy.url else f"http://{proxy.url}")
        if through.scheme != "http" or not through.hostname:
            raise NetworkError(
                f"the proxy {proxy} cannot be used for addresses: expected http://HOST:PORT",
                hint=f"list {parts.hostname} in NO_PROXY if it can be reached directly",
            )
        if parts.scheme == "http":
            return http.client.HTTPConnection(through.hostname, through.port or 80, timeout=TIMEOUT_SECONDS)
        connection = http.client.HTTPSConnection(
            through.hostname, through.port or 80, timeout=TIMEOUT_SECONDS, context=self._tls
        )
        connection.set_tunnel(parts.hostname, port, headers=_proxy_login(proxy))
        return connection

    def _give_back(self, url: str, connection: http.client.HTTPConnection) -> None:
        self._idle.give_back(origin_of(url), connection)


def _read_refusal(connection: http.client.HTTPConnection, url: str) -> Answer | None:
    """Return why a server has closed before all was sent; None where it does not say."""
    with contextlib.suppress(*BROKEN):
        answer = Answer(connection, url, lambda url, connection: connection.close())
        if answer.status >= 300:
            return answer
    return None


def origin_of(url: str) -> tuple[str, str]:
    """Return scheme, and host with port, of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower()


def _check(url: str, said_by: str = "") -> str:
    try:
        return to_ascii(url)
    except ValueError as error:
        raise RemoteError(f"{said_by}{show(url)}: {error} in this address") from None


def find_target(url: str, location: str) -> str:
    """Return the address that a redirect, or another answer with a `Location`, leads to.

    Args:
        url: What was asked.
        location: What the answer says.

    Raises:
        RemoteError: It is none, or one that is not to be asked.
    """
    # The library takes headers for Latin-1; where they are not ASCII, they are UTF-8 (RFC 9110, section 5.5).
    location = location.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
    said_by = f"{show(url)} leads to "
    try:
        following = urljoin(url, location)
    except ValueError:
        raise RemoteError(f"{said_by}what is no address") from None
    if not (following.startswith("https://") or (url.startswith("http://") and following[:7] == "http://")):
        raise RemoteError(f"{said_by}{show(following)}, which is not asked: it is no https address")
    return _check(following, said_by)


def _may_repeat(content: Content | None) -> bool:
    return content is None or isinstance(content, bytes)


def _proxy_login(proxy: Proxy) -> dict[str, str]:
    parts = urlsplit(proxy.url if "://" in proxy.url else f"http://{proxy.url}")
    if not parts.username:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(login.encode()).decode()}


def explain_broken(error: Exception, url: str) -> NetworkError:
    """Return what to tell a person of a connection that broke, one of `BROKEN`."""
    parts = urlsplit(url)
    proxy = proxy_for(url)
    through = f", through the proxy {proxy}" if proxy else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return NetworkError(
            f"the certificate of {parts.hostname} is not trusted: {error.verify_message or error}",
            hint="point SSL_CERT_FILE at a PEM file that holds your organisation's certificate authority",
        )
    if isinstance(error, TimeoutError):
        said = str(error) if error.args else ""
        slow = said if said.startswith("it brought") else f"no answer within {TIMEOUT_SECONDS:.0f} s"
        return NetworkError(f"{show(url)}: {slow}{through}", hint="try again")
    said = (
        os.strerror(error.errno) if isinstance(error, OSError) and error.errno and error.errno > 0 else str(error)
    )
    return NetworkError(
        f"{show(url)}: the connection failed{through}: {' '.join(said.split())[:200] or type(error).__name__}",
        hint="check the host's name and the way to it, then run the same command again",
    )
