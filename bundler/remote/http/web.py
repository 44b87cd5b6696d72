"""Objects of plain web servers, by https or http, with the login of the address or of ~/.netrc."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from bundler.errors import RemoteError
from bundler.remote.address import Address
from bundler.remote.http.answer import BROKEN
from bundler.remote.http.client import Client, explain_broken
from bundler.remote.http.login import BasicLogin, Login, NoLogin
from bundler.remote.http.object import HttpObject
from bundler.remote.http.patience import LaterError, raise_refusal
from bundler.remote.object import RemoteObject
from bundler.remote.url import to_ascii


def open_web(address: Address, *, beside: RemoteObject | None = None) -> HttpObject:
    """Open an object of a web server.

    Args:
        address: Where it is.
        beside: An object that was opened before, and whose connections are used too.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
    """
    client = beside.client if isinstance(beside, HttpObject) else Client()
    return HttpObject(client, to_ascii(address.url), str(address), login=_find_login(address))


def put_web(address: Address, blocks: Iterator[bytes], size_bytes: int) -> None:
    """Write an object of a web server that takes PUT, as Artifactory, Nexus and WebDAV do.

    Args:
        address: Where it goes.
        blocks: Its content.
        size_bytes: Its length.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
    """
    client, url, login = Client(), to_ascii(address.url), _find_login(address)
    try:
        # With the login from the first request on: the content can be sent once.
        headers = {"Content-Length": str(size_bytes), "Content-Type": "application/octet-stream"}
        with client.send("PUT", url, headers, content=blocks, login=login, follow=False) as answer:
            if 300 <= answer.status < 400:
                raise RemoteError(f"{address}: the server leads elsewhere, and what is sent is not sent there")
            raise_refusal(answer, str(address))
    except LaterError as error:
        raise error.refusal from error
    except BROKEN as error:
        raise explain_broken(error, url) from error
    finally:
        client.close()


def _find_login(address: Address) -> Login:
    parts = address.parts
    if parts.username:
        return BasicLogin(unquote(parts.username), unquote(parts.password or ""))
    if parts.scheme != "https":
        # What is in a file for all uses is not sent where everybody on the way can read it.
        return NoLogin()
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        found = netrc.netrc(path).authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        return NoLogin()
    return BasicLogin(found[0], found[2] or "") if found else NoLogin()
