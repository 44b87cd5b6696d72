"""Find the proxy that a request will use: which variable sets it, and whether it lets requests through.

If a proxy does not answer, the Hugging Face libraries retry for almost a minute, and then raise an error that names
neither the proxy nor the variable. So before anything goes online, `check_proxy` sends the proxy the same request as
the libraries will, and has a result within five seconds, whatever the proxy does.

Rule book:

* only the standard library is used and the environment is not changed: this runs before the libraries are imported;
* a proxy is named by the variable that sets it, because a person can change that; passwords are not shown;
* it is enough that the proxy lets the request through: the real request will show whether the Hub answers.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import ssl
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from bundler.errors import NetworkError
from bundler.hub.connection.endpoint import hub_endpoint, without_password
from bundler.hub.connection.reach import PROBE_SECONDS, ask_within
from bundler.hub.connection.socks import missing_package, socks5_fault

# The proxy schemes that the HTTP client supports.
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_MAX_ANSWER_BYTES = 16_384
_passed: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class Proxy:
    """A proxy from the environment.

    Attributes:
        variable: Name of the environment variable that sets it, as spelled there.
        url: Its value.
    """

    variable: str
    url: str

    def __str__(self) -> str:
        return f"{without_password(self.url)} (from {self.variable})"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy that a request to `url` goes through, by the rules that httpx and curl follow."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None  # Not an address; the request itself will fail, and say so.
    proxies = getproxies_environment()
    if not parts.hostname or proxy_bypass(parts.hostname) or _is_in_network(parts.hostname, proxies.get("no", "")):
        return None
    for scheme in (parts.scheme, "all"):
        value = proxies.get(scheme)
        if value:
            # The lower-case variable has precedence, as in `urllib.request.getproxies_environment`.
            names = [f"{scheme}_proxy", *(n for n in os.environ if n.lower() == f"{scheme}_proxy")]
            return Proxy(next((n for n in names if os.environ.get(n)), names[0]), value)
    return None


def _is_in_network(host: str, exceptions: str) -> bool:
    """Return whether an address is in a network of NO_PROXY, which urllib does not read; httpx2 looks up no names."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for entry in exceptions.split(","):
        with contextlib.suppress(ValueError):
            if "/" in entry and address in ip_network(entry.strip(), strict=False):
                return True
    return False


def list_unread_exceptions(exceptions: str) -> list[str]:
    """Return the entries of NO_PROXY that the client does not apply to names: networks, and default ports.

    httpx2 looks up no name to see whether it is in a network, and compares ports with those in the address.
    """
    entries = [entry.strip() for entry in exceptions.split(",")]
    return [entry for entry in entries if "://" not in entry and ("/" in entry or entry.endswith((":80", ":443")))]


def check_proxy(endpoint: str | None = None) -> Proxy | None:
    """Check that the proxy to the Hub, if there is one, lets requests through.

    Args:
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.

    Returns:
        The proxy, or None when none is set for this address.

    Raises:
        NetworkError: The proxy refuses, or does not answer. The message names the variable and what can be changed.
    """
    address = endpoint or hub_endpoint()
    proxy = proxy_for(address)
    if proxy is not None and (problem := probe(proxy, address)):
        raise proxy_error(proxy, problem, address)
    return proxy


def check_proxy_once(endpoint: str | None = None) -> None:
    """Do what `check_proxy` does, but ask each proxy that lets requests through only once per process.

    Raises:
        NetworkError: As `check_proxy`.
    """
    address = endpoint or hub_endpoint()
    proxy = proxy_for(address)
    if proxy is not None and (proxy.url, address) not in _passed:
        check_proxy(address)
        _passed.add((proxy.url, address))


def proxy_error(proxy: Proxy, problem: str, endpoint: str) -> NetworkError:
    """Return the error for a proxy that does not let requests through, with what to do."""
    host = urlsplit(endpoint).hostname
    hint = f"correct or unset {proxy.variable}, or list {host} in NO_PROXY if it can be reached directly"
    if unread := list_unread_exceptions(getproxies_environment().get("no", "")):
        hint += f"; of NO_PROXY the client does not apply {', '.join(unread)} to names"
    return NetworkError(f"the proxy {proxy} {problem}", hint=hint)


def probe(proxy: Proxy, endpoint: str, *, timeout_seconds: float = PROBE_SECONDS) -> str | None:
    """Ask a proxy to connect to `endpoint`.

    Args:
        proxy: The proxy.
        endpoint: The Hub's address.
        timeout_seconds: Time limit for everything, including the look-up of the proxy's name.

    Returns:
        What is wrong, as the end of a sentence that begins with the proxy; None if it lets requests through.
    """
    return ask_within(lambda: _ask(proxy, endpoint, timeout_seconds), timeout_seconds)


def _ask(proxy: Proxy, endpoint: str, timeout_seconds: float) -> str | None:
    try:
        parts = urlsplit(proxy.url if "://" in proxy.url else f"http://{proxy.url}")
        port = parts.port or _PORTS[parts.scheme]
        if not parts.hostname:
            return "has no host name in it"
        is_socks = parts.scheme.startswith("socks")
        if is_socks and (missing := missing_package()):
            return missing
    except (ValueError, KeyError):
        return (
            "cannot be used: expected an address such as http://proxy.example:3128 or socks5://proxy.example:1080"
        )
    try:
        connection = socket.create_connection((parts.hostname, port), timeout=timeout_seconds)
    except socket.gaierror:
        return f"cannot be reached: there is no host {parts.hostname}"
    except TimeoutError:
        return f"did not answer within {timeout_seconds:g} s"
    except OSError as error:
        return f"cannot be reached: {error.strerror or error}"
    with connection:
        try:
            if is_socks:
                return socks5_fault(connection, parts, endpoint)
            if parts.scheme == "https":
                connection = ssl.create_default_context().wrap_socket(connection, server_hostname=parts.hostname)
            connection.sendall(_write_request(parts, endpoint))
            answer = _read_first_line(connection)
            return _explain_answer(answer, urlsplit(endpoint).hostname or "", tunnel=endpoint.startswith("https:"))
        except TimeoutError:
            return f"accepted the connection but did not answer within {timeout_seconds:g} s"
        except OSError as error:
            return f"broke the connection: {error.strerror or error}"
        except UnicodeError as error:
            return f"cannot be used: {error}"


def _write_request(proxy: SplitResult, endpoint: str) -> bytes:
    """Return the request that a client makes of a proxy (RFC 9110, section 9.3.6; RFC 9112, section 3.2.2)."""
    hub = urlsplit(endpoint)
    if hub.scheme == "https":
        target = f"{hub.hostname}:{hub.port or 443}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    else:
        lines = [f"HEAD {endpoint}/ HTTP/1.1", f"Host: {hub.netloc.rpartition('@')[2]}", "Connection: close"]
    if proxy.username:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


def _read_first_line(connection: socket.socket) -> str:
    received = b""
    while b"\n" not in received and len(received) < _MAX_ANSWER_BYTES:
        part = connection.recv(4096)
        if not part:
            break
        received += part
    return received.partition(b"\n")[0].decode("latin-1").strip()


def _explain_answer(line: str, host: str, *, tunnel: bool) -> str | None:
    match = re.match(r"HTTP/\d(?:\.\d)? (\d{3})(?: (.*))?$", line)
    if match is None:
        return f"is not a proxy: it answers {line[:60]!r}" if line else "closed the connection without an answer"
    status, reason = int(match[1]), (match[2] or "").strip()
    if status == 407:
        return (
            "wants a user name and a password (407): write them into the variable, http://USER:PASSWORD@HOST:PORT"
        )
    # Without a tunnel the answer may come from the Hub itself; then any answer shows that the proxy works.
    refused = not 200 <= status < 300 if tunnel else status in (403, 502, 503, 504)
    return f"refused the connection to {host}: {status} {reason}".rstrip() if refused else None
