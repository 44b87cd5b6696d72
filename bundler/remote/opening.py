"""Open what an address leads to: the one place that knows which kind of address is read by which module."""

from __future__ import annotations

import os
import re

from bundler.errors import RemoteError, UsageError
from bundler.remote.address import REGISTRY_SCHEMES, STORE_SCHEMES, WEB_SCHEMES, Address
from bundler.remote.object import RemoteObject
from bundler.remote.signature import FoundSignature

# What says that there is nothing.
NOT_THERE = (404, 410)
# What servers answer for a file that is not there; 403 where one may not list what there is.
ABSENT = (401, 403, *NOT_THERE)
# What a file system takes (255), less what names of unfinished files have besides.
_MOST_NAME_BYTES = 240


def open_remote(
    address: Address, *, is_read_whole: bool = False, beside: RemoteObject | None = None
) -> RemoteObject:
    """Open the object that an address leads to.

    Args:
        address: The address.
        is_read_whole: The caller reads all of it, and compares it with `RemoteObject.content_digest`.
        beside: An object on the same server: of a web server, its connections are used too.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
        DependencyError: A package is missing; the message names the extra.
    """
    if address.scheme in REGISTRY_SCHEMES:
        from bundler.remote.oci.opening import open_registry

        return open_registry(address, is_read_whole=is_read_whole)
    if address.scheme in STORE_SCHEMES:
        from bundler.remote.store import StoreObject

        return StoreObject(address)
    assert address.scheme in WEB_SCHEMES, "an Address checks its scheme"
    from bundler.remote.http.web import open_web

    return open_web(address, beside=beside)


def name_file(address: Address) -> str:
    """Return what a file of the object at an address is called.

    Raises:
        UsageError: The address gives it no name that is one of a file in any folder.
    """
    if address.scheme in REGISTRY_SCHEMES:
        from bundler.remote.oci.reference import Reference

        return Reference.parse(address).file_name
    name = address.name
    # Written %2e%2e%2Fx, the last part of a path is more than one.
    is_plain = name not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f]", name)
    if not is_plain or len(os.fsencode(name)) > _MOST_NAME_BYTES:
        raise UsageError(
            f"{address}: expected a last part that is a plain file name, found {name[:80]!r}",
            hint="say with -o which file to write",
        )
    return name


def read_signatures(address: Address, *, most_bytes: int) -> list[FoundSignature]:
    """Read what is in the place of the signature of the bundle behind an address; in a registry there may be several.

    Args:
        address: The bundle's address; the signature has the same with ``.sig`` at its end; in a registry, it is
            attached to the bundle.
        most_bytes: The most that one may hold; of a longer one the first byte after that comes along.

    Raises:
        NetworkError: It cannot be told whether there is one: the server cannot be reached.
        RemoteError: Nor can it: the server refused, and not because there is none.
        FormatError, ChangedError: There are some in a registry, and none can be read.
    """
    if address.scheme in REGISTRY_SCHEMES:
        from bundler.remote.oci.opening import read_registry_signatures

        return read_registry_signatures(address, most_bytes=most_bytes)
    beside = address.beside(".sig")
    try:
        return [FoundSignature(read_small(beside, most_bytes=most_bytes), str(beside))]
    except RemoteError as error:
        if error.status in ABSENT:
            return []
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
