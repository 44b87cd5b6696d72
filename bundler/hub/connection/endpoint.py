"""Read and check the Hub's address in the environment, before any library reads it.

huggingface_hub parses `HF_ENDPOINT` when it is imported, and fails with a traceback if it is not an address. So code
that goes online calls `check_endpoint` first. Only the standard library is imported here.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit, urlunsplit

from bundler.errors import NetworkError

DEFAULT_ENDPOINT = "https://huggingface.co"
EXAMPLE_HINT = "HF_ENDPOINT looks like https://huggingface.co: correct or unset it"


def hub_endpoint() -> str:
    """Return the Hub's address, read from the environment as huggingface_hub reads it."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def check_endpoint() -> str:
    """Return `hub_endpoint()` after checking that it is the address of a web server.

    An empty HF_ENDPOINT is taken out of the environment: huggingface_hub takes it for an address.

    Raises:
        NetworkError: It is not.
    """
    if os.environ.get("HF_ENDPOINT") == "":
        del os.environ["HF_ENDPOINT"]
    address = hub_endpoint()
    if fault := address_fault(address):
        raise NetworkError(f"HF_ENDPOINT is {without_password(address)!r}: {fault}", hint=EXAMPLE_HINT)
    return address


def address_fault(address: str) -> str | None:
    """Return why `address` is not that of a web server, as the end of a sentence; None if it is."""
    try:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https"):
            return "it begins with neither https:// nor http://"
        if not parts.hostname:
            return "it names no host"
        if parts.port == 0:
            return "no server has port 0"
    except ValueError as error:  # from urlsplit, or from its `port`
        return str(error)
    return None


def host_of(address: str) -> str:
    """Return host and port of an address, without user and password; `address` itself if it has no host."""
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
