"""Open what an address leads to: the one place that knows which kind of address is read by which module."""

from __future__ import annotations

from bundler.errors import RemoteError
from bundler.remote.address import WEB_SCHEMES, Address
from bundler.remote.object import RemoteObject

# What servers answer for a file that is not there; 403 where one may not list what there is.
_ABSENT = (401, 403, 404, 410)


def open_remote(address: Address) -> RemoteObject:
    """Open the object that an address leads to.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
        DependencyError: A package is missing; the message names the extra.
    """
    assert address.scheme in WEB_SCHEMES, "an Address checks its scheme"
    from bundler.remote.http.web import open_web

    return open_web(address)


def read_signature(address: Address, *, most_bytes: int) -> tuple[bytes, str] | None:
    """Read the signature of the bundle behind an address; None where there is none.

    Args:
        address: The bundle's address; the signature has the same with ``.sig`` at its end.
        most_bytes: The most that it may hold; of a longer one the first byte after that comes along.

    Returns:
        The content, and what it is called in messages.

    Raises:
        NetworkError: It cannot be told whether there is one: the server cannot be reached.
        RemoteError: Nor can it: the server refused, and not because there is none.
    """
    beside = address.beside(".sig")
    try:
        return read_small(beside, most_bytes=most_bytes), str(beside)
    except RemoteError as error:
        if error.status in _ABSENT:
            return None
        raise


def read_small(address: Address, *, most_bytes: int) -> bytes:
    """Read a small object; of one longer than `most_bytes` the first byte after that comes along.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
    """
    found = open_remote(address)
    try:
        content = memoryview(bytearray(most_bytes + 1))
        done = 0
        with found.stream() as body:
            while done < len(content) and (count := body.readinto(content[done:])):
                done += count
        return bytes(content[:done])
    finally:
        found.close()
