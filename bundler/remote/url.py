"""The form in which an address is sent: in ASCII, and nothing of it that a server is not to see."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

# What has a meaning in an address, or is quoted already.
_KEPT = "%/:=&?~+!$,;'@()*[]"
_HOST = re.compile(r"[A-Za-z0-9_.~-]+")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.~-]+)?")


def to_ascii(url: str) -> str:
    """Return an address without user and fragment, its host by IDNA (RFC 3490), and all else quoted (RFC 3987).

    Raises:
        ValueError: It has no host and port that can be asked. The text holds nothing of it: that may be a password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        # Its text holds what stands where the port should.
        raise ValueError("expected a host, and a port from 0 to 65535") from None
    if ":" not in host:
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError("expected a host by a name that can be looked up") from None
        if not _HOST.fullmatch(host):
            raise ValueError("expected a host")
    elif _IPV6.fullmatch(host):
        host = f"[{host}]"
    else:
        raise ValueError("expected a host")
    netloc = host if port is None else f"{host}:{port}"
    try:
        # Bytes of a command line that are no UTF-8 are what they were.
        path, query = (quote(part, safe=_KEPT, errors="surrogateescape") for part in (parts.path, parts.query))
    except UnicodeError:
        raise ValueError("expected characters of Unicode") from None
    return parts._replace(netloc=netloc, path=path, query=query, fragment="").geturl()
