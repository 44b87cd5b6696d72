"""The Hub's address, as the environment names it and before any library has read it.

huggingface_hub takes `HF_ENDPOINT` apart when it is imported, and dies there of what is no address. So whoever goes
online calls `check_endpoint` first. Nothing but the standard library is imported here.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit, urlunsplit

from bundler.errors import NetworkError

DEFAULT_ENDPOINT = "https://huggingface.co"
EXAMPLE_HINT = "HF_ENDPOINT looks like https://huggingface.co: correct or unset it"


def hub_endpoint() -> str:
    """Return the Hub's address as huggingface_hub reads it from the environment."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def check_endpoint() -> str:
    """Return `hub_endpoint`, made sure that it is the address of some web server.

    Raises:
        NetworkError: It is none.
    """
    address = hub_endpoint()
    if fault := address_fault(address):
        raise NetworkError(f"HF_ENDPOINT is {without_password(address)!r}: {fault}", hint=EXAMPLE_HINT)
    return address


def address_fault(address: str) -> str | None:
    """Return why `address` is none of a web server, to follow it in a sentence; None when it is one."""
    try:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https"):
            return "it begins with neither https:// nor http://"
        if not parts.hostname:
            return "it names no host"
        if parts.port == 0:
            return "no server has port 0"
    except ValueError as error:  # of urlsplit, or of its `port`
        return str(error)
    return None


def host_of(address: str) -> str:
    """Return host and port of an address, without user and password; the address if it has no host."""
    try:
        return urlsplit(address).netloc.rpartition("@")[2] or without_password(address)
    except ValueError:
        return without_password(address)


def without_password(url: str) -> str:
    """Return `url` with its password, if any, replaced by stars."""
    try:
        parts = urlsplit(url)
        if not parts.password:
            return url
        return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))
    except ValueError:
        return re.sub(r"//[^@/]*@", "//***@", url)
