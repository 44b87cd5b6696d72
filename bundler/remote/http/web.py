"""Objects of plain web servers, by https or http, with the login of the address or of ~/.netrc."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from urllib.parse import unquote

from bundler.remote.address import Address
from bundler.remote.http.client import BasicLogin, Client, Login, NoLogin
from bundler.remote.http.object import HttpObject


def open_web(address: Address) -> HttpObject:
    """Open an object of a web server.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
    """
    parts = address.parts
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    return HttpObject(Client(), bare, str(address), login=_find_login(address))


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
