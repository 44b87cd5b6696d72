"""Open what is installed from: a file, volumes, a pipe; an address by ranges, or as it comes where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundler.format.reader import BundleReader
from bundler.format.source import Source
from bundler.format.storage.remote import RemoteStored
from bundler.format.storage.remote_volumes import open_bundle
from bundler.format.storage.stream_input import Readable
from bundler.format.stream import BundleStream
from bundler.remote.address import Address, Place


def open_source(source: Place | Sequence[Path] | Readable) -> Source:
    """Open a bundle to read it from front to back; nothing of it is stored.

    Raises:
        FormatError: It is no bundle, or a damaged one.
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
    """
    if isinstance(source, Address):
        return _open_address(source)
    if isinstance(source, Path | Sequence):
        return BundleReader(source)
    return BundleStream(source)


def _open_address(address: Address) -> Source:
    source, address = open_bundle(address)
    if source.has_ranges:
        return BundleReader(RemoteStored(source, address))
    body = source.stream()

    def close() -> None:
        body.__exit__(None, None, None)
        source.close()

    try:
        return BundleStream(body, str(address), place=address, expected_digest=source.bundle_digest, close=close)
    except BaseException:
        close()
        raise
