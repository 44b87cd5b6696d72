"""Send a bundle to a web server that takes files (PUT), or to an object store, with its signature beside it.

Neither goes on with what was begun: a server that takes PUT has no way to, and an object store forgets the parts of
what was not finished. So that no more than a piece is lost with a push that is killed, a bundle may be sent in volumes.
What is there already, the same bundle by its index or the same volume by its header and length, is not sent again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from bundler.errors import BundleError, ChangedError, FormatError, RemoteError, UsageError
from bundler.format.index import CHUNK_HEADER_BYTES, PREAMBLE
from bundler.format.reader import BundleReader
from bundler.format.storage.remote_volumes import MOST_VOLUMES, find_volume
from bundler.format.storage.stored import Stored
from bundler.format.storage.volume_cut import VolumeCut
from bundler.format.storage.volume_header import VolumeHeader
from bundler.format.storage.volume_names import volume_path
from bundler.remote.address import WEB_SCHEMES, Address
from bundler.remote.opening import ABSENT, open_remote
from bundler.transfer.pieces import Piece, hash_piece

_BLOCK_BYTES = 4 << 20
SIGNATURE_SUFFIX = ".sig"


def put_bundle(
    stored: Stored,
    reader: BundleReader,
    address: Address,
    signature: Path | None,
    *,
    piece_bytes: int | None = None,
    progress: Callable[[int], None],
) -> int:
    """Send a bundle, and then its signature.

    Args:
        stored: Its bytes.
        reader: The same, opened.
        address: Where it goes.
        signature: Its signature.
        piece_bytes: Send it in volumes that are no longer; default in one piece.
        progress: Called with the number of bytes sent since the last call.

    Returns:
        How many bytes were sent; 0 where the bundle was there.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused.
        UsageError: Volumes are too short, or another object stands where they would be looked for.
    """
    sent = 0
    if _is_there(reader, address):
        progress(stored.size_bytes)
    elif piece_bytes is not None:
        sent = _put_volumes(stored, reader, address, piece_bytes, progress)
    else:
        _put(address, _read_blocks(stored, 0, stored.size_bytes, progress), stored.size_bytes)
        sent = stored.size_bytes
    if signature is not None:
        content = signature.read_bytes()
        _put(address.beside(SIGNATURE_SUFFIX), iter([content]), len(content))
    return sent


def _is_there(reader: BundleReader, address: Address) -> bool:
    with contextlib.suppress(BundleError), BundleReader(address) as there:
        return (there.digest, there.size_bytes) == (reader.digest, reader.size_bytes)
    return False


def _put_volumes(
    stored: Stored, reader: BundleReader, address: Address, limit_bytes: int, progress: Callable[[int], None]
) -> int:
    """Send the volumes that are not there; return how many bytes that were."""
    cut = VolumeCut(limit_bytes, option="--piece-size")
    end = len(PREAMBLE)
    for chunk in reader.index.chunks:
        length = CHUNK_HEADER_BYTES + chunk.stored_bytes
        cut.add(length)
        end += length
    cut.add(stored.size_bytes - end)
    count = len(cut.part_bytes)
    if count > MOST_VOLUMES:
        raise UsageError(
            f"{address}: this bundle would be cut into {count:,} volumes, expected at most {MOST_VOLUMES}",
            hint="choose a larger --piece-size",
        )
    if address.parts.path.endswith("/"):
        raise UsageError(f"{address}: expected the name that the bundle is to have, found that of a folder")
    _refuse_another(address)
    progress(len(PREAMBLE))
    sent, start = 0, len(PREAMBLE)
    for number, part_bytes in enumerate(cut.part_bytes, 1):
        header = VolumeHeader(
            number=number,
            count=count,
            start=start,
            part_bytes=part_bytes,
            bundle_bytes=stored.size_bytes,
            bundle_sha256=bytes.fromhex(reader.digest.removeprefix("sha256:")),
            part_blake3=bytes.fromhex(hash_piece(Piece(stored, start, part_bytes), "blake3").blake3 or ""),
        )
        start += part_bytes
        volume = volume_path(address, number, count)
        if find_volume(volume) == header:
            progress(part_bytes)
            continue
        head = header.pack()
        blocks = itertools.chain([head], _read_blocks(stored, header.start, header.stop, progress))
        _put(volume, blocks, len(head) + part_bytes)
        sent += len(head) + part_bytes
    _check_there(reader, address)
    return sent


def _check_there(reader: BundleReader, address: Address) -> None:
    """Look at what stands there, where that may be looked at: another push may have been on its way."""
    try:
        with BundleReader(address) as there:
            found = there.digest
    except RemoteError as error:
        if error.status in ABSENT:
            return
        raise
    except FormatError as error:
        found = error.message
    if found != reader.digest:
        raise ChangedError(
            f"{address}: all volumes were sent, and {reader.digest} is not what stands there now: {found}",
            hint="if nothing else sends to that address, run the same command again",
        )


def _refuse_another(address: Address) -> None:
    """Refuse to put volumes beside an object of their name, which would be read instead of them."""
    try:
        open_remote(address).close()
    except RemoteError as error:
        if error.status in ABSENT:
            return
        raise
    raise UsageError(
        f"{address}: expected nothing there, and volumes beside it; found another object, which would be read instead",
        hint="delete it, or push to another name",
    )


def _read_blocks(stored: Stored, start: int, stop: int, progress: Callable[[int], None]) -> Iterator[bytes]:
    while start < stop:
        # New memory each time: an object store keeps some while they are on their way.
        block = bytearray(min(_BLOCK_BYTES, stop - start))
        stored.read_into(start, memoryview(block))
        yield bytes(block)
        start += len(block)
        progress(len(block))


def _put(address: Address, blocks: Iterator[bytes], size_bytes: int) -> None:
    if address.scheme in WEB_SCHEMES:
        from bundler.remote.http.web import put_web

        put_web(address, blocks, size_bytes)
    else:
        from bundler.remote.store import put_object

        put_object(address, blocks)
