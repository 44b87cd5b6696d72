"""Send a bundle to a web server that takes files (PUT), or to an object store, with its signature beside it.

Neither goes on with what was begun: a server that takes PUT has no way to, and an object store forgets the parts of
what was not finished. What is there already, the same bundle by its index, is not sent again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from bundler.errors import BundleError
from bundler.format.reader import BundleReader
from bundler.format.storage.stored import Stored
from bundler.remote.address import WEB_SCHEMES, Address

_BLOCK_BYTES = 4 << 20
SIGNATURE_SUFFIX = ".sig"


def put_bundle(
    stored: Stored,
    reader: BundleReader,
    address: Address,
    signature: Path | None,
    *,
    progress: Callable[[int], None],
) -> int:
    """Send a bundle, and then its signature.

    Args:
        stored: Its bytes.
        reader: The same, opened.
        address: Where it goes.
        signature: Its signature.
        progress: Called with the number of bytes sent since the last call.

    Returns:
        How many bytes were sent; 0 where the bundle was there.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
    """
    sent = 0
    if _is_there(reader, address):
        progress(stored.size_bytes)
    else:
        _put(address, _read_blocks(stored, progress), stored.size_bytes)
        sent = stored.size_bytes
    if signature is not None:
        content = signature.read_bytes()
        _put(address.beside(SIGNATURE_SUFFIX), iter([content]), len(content))
    return sent


def _is_there(reader: BundleReader, address: Address) -> bool:
    with contextlib.suppress(BundleError), BundleReader(address) as there:
        return (there.digest, there.size_bytes) == (reader.digest, reader.size_bytes)
    return False


def _read_blocks(stored: Stored, progress: Callable[[int], None]) -> Iterator[bytes]:
    position = 0
    while position < stored.size_bytes:
        # New memory each time: an object store keeps some while they are on their way.
        block = bytearray(min(_BLOCK_BYTES, stored.size_bytes - position))
        stored.read_into(position, memoryview(block))
        yield bytes(block)
        position += len(block)
        progress(len(block))


def _put(address: Address, blocks: Iterator[bytes], size_bytes: int) -> None:
    if address.scheme in WEB_SCHEMES:
        from bundler.remote.http.web import put_web

        put_web(address, blocks, size_bytes)
    else:
        from bundler.remote.store import put_object

        put_object(address, blocks)
