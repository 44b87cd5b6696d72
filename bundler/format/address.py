"""Open a bundle to read it from front to back: by ranges where its server has them, else as it comes."""

from __future__ import annotations

from bundler.format.reader import BundleReader
from bundler.format.source import Source
from bundler.format.storage.remote import RemoteStored
from bundler.format.stream import BundleStream
from bundler.remote.address import Address
from bundler.remote.opening import open_remote


def open_address(address: Address) -> Source:
    """Open the bundle behind an address; nothing of it is stored.

    Raises:
        FormatError: It is no bundle, or a damaged one.
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
    """
    source = open_remote(address)
    if source.has_ranges:
        return BundleReader(RemoteStored(source, address))
    body = source.stream()

    def close() -> None:
        body.__exit__(None, None, None)
        source.close()

    try:
        return BundleStream(body, str(address), place=address, close=close)
    except BaseException:
        close()
        raise
