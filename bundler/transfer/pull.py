"""Bring the bundle of an address into a file: over several connections, resumed, and verified before it has its name.

Rule book:

* what arrived is kept when the process dies, and is not asked for again, as long as the address leads to the same
  object: by its digest in a registry, by its entity tag or its date else;
* the file gets its name when each chunk of it was compared with the index, and the index with what the address
  promises; what differs is deleted;
* the signature comes along, beside it; whether it is right is asked where the bundle is used. Where there is none, one
  that was beside an earlier file is set aside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import BundleError, DamagedError, RemoteError, SpaceError, TrustError
from bundler.files.atomic import atomic_write
from bundler.files.digest import hash_file
from bundler.files.parallel import available_cores
from bundler.files.space import check_room, report_full_disk
from bundler.format.reader import BundleReader
from bundler.format.storage.remote_volumes import open_bundle
from bundler.hub.connection.crew import Crew
from bundler.remote.address import Address
from bundler.remote.object import RemoteObject
from bundler.remote.opening import name_file
from bundler.remote.whole import try_again
from bundler.transfer.partial import PartialFile
from bundler.trust.signature_file import choose_signature, read_signature
from bundler.verify.stored import verify_stored

CONNECTIONS = 8
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """A bundle that was brought.

    Attributes:
        path: Its file.
        name: The bundle's name.
        digest: Its digest.
        size_bytes: Its length.
        received_bytes: How much of it came now; the rest an earlier run had left.
        signature: Its signature; None where there is none at the address.
    """

    path: Path
    name: str
    digest: str
    size_bytes: int
    received_bytes: int
    signature: Path | None


def pull(
    address: Address,
    output: Path | None = None,
    *,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
) -> Pulled:
    """Bring a bundle.

    Args:
        address: Where it is.
        output: The file; default the name at the address, here.
        on_total: Called once with the number of bytes that `progress` will add up to.
        progress: Called with the number of bytes that are there since the last call.

    Raises:
        NetworkError: The server cannot be reached; what arrived stays.
        RemoteError: It refused, or does not say how long it is.
        ChangedError: The address leads to another object than a moment ago, or than its digest says.
        DamagedError: What arrived is not what was written; nothing is left.
        FormatError: It is no bundle; nothing is left.
        SpaceError: There is not enough room.
    """
    # A name that is none is refused before anybody is asked; that of a volume becomes the bundle's.
    target = output or Path(name_file(address))
    source, address = open_bundle(address, is_read_whole=True)
    try:
        target = (output or target.with_name(name_file(address))).absolute()
        received, signature = _bring(source, address, target, on_total, progress)
    finally:
        source.close()
    with BundleReader(target) as reader:
        return Pulled(
            path=target,
            name=reader.name,
            digest=reader.digest,
            size_bytes=reader.size_bytes,
            received_bytes=received,
            signature=signature,
        )


def _bring(
    source: RemoteObject,
    address: Address,
    target: Path,
    on_total: Callable[[int], None],
    progress: Callable[[int], None],
) -> tuple[int, Path | None]:
    """Bring file and signature; return how many bytes of the first came, and the path of the other."""
    size = source.size_bytes
    if size is None:
        raise RemoteError(
            f"{source.label}: the server does not say how long it is, so it cannot be pulled",
            hint="`bundle install` takes it as it comes",
        )
    on_total(size)
    full = report_full_disk(
        target.parent,
        f"{target.parent}: the file system is full; what arrived is kept",
        hint="make room, then run the same command again",
    )
    with full, PartialFile(target, source.version or "", size) as partial:
        if not source.has_ranges or not source.version:
            partial.clear()
        before = partial.done_bytes
        try:
            check_room({target.parent: size - before})
            partial.begin()
        except (SpaceError, OSError):
            if not before:
                partial.delete()
            raise
        progress(before)
        if source.has_ranges:
            _bring_parts(source, partial, progress)
        else:
            try_again(lambda: _bring_in_order(source, partial, progress))
        try:
            digest = _verify(partial.path, source)
        except BundleError as error:
            partial.delete()
            # The file that it was read from is gone.
            error.message = error.message.replace(str(partial.path), source.label)
            error.hint = (
                "pull it again; if that ends in the same way, what the address leads to is damaged, or no bundle"
            )
            raise
        # Before the file has its name: what cannot be told now can be asked again, and all of the file is here.
        chosen = choose_signature(address, of=digest)
        partial.finish()
    return size - before, _keep_signature(chosen[0] if chosen else None, target, digest)


def _bring_parts(source: RemoteObject, partial: PartialFile, progress: Callable[[int], None]) -> None:
    stop, writing = threading.Event(), threading.Lock()

    def bring(number: int) -> None:
        start, end = partial.span(number)

        def take(block: memoryview) -> None:
            with writing:
                if not stop.is_set():
                    partial.write(number, block)
                    progress(len(block))

        if start < end:
            source.read_blocks(start, end, take, stop)

    numbers, mutex = iter(range(partial.parts)), threading.Lock()

    def work() -> None:
        # Not a call for each part: nobody knows how many a server says there are.
        while not stop.is_set():
            with mutex:
                number = next(numbers, None)
            if number is None:
                return
            bring(number)

    try:
        Crew(CONNECTIONS, stop).run([work] * min(CONNECTIONS, partial.parts))
    finally:
        # Whoever waits for a server still writes nothing any more.
        with writing:
            stop.set()


def _bring_in_order(source: RemoteObject, partial: PartialFile, progress: Callable[[int], None]) -> None:
    progress(-partial.done_bytes)
    partial.clear()
    partial.begin()
    room = memoryview(bytearray(_BLOCK_BYTES))
    with source.stream() as body:
        for number in range(partial.parts):
            start, end = partial.span(number)
            while start < end and (count := body.readinto(room[: end - start])):
                partial.write(number, room[:count])
                progress(count)
                start += count


def _verify(path: Path, source: RemoteObject) -> str:
    """Compare every chunk with the index, and the index with what the address promises; return the bundle's digest."""
    with BundleReader(path) as reader:
        digest = reader.digest
        if source.bundle_digest is not None and reader.digest != source.bundle_digest:
            raise DamagedError(f"{source.label}: expected bundle {source.bundle_digest}, found {reader.digest}")
        verify_stored(reader, jobs=available_cores())
    expected = source.content_digest
    if source.bundle_digest is None and expected is not None:
        found = f"sha256:{hash_file(path, 'sha256').sha256}"
        if found != expected:
            raise DamagedError(f"{source.label}: expected {expected}, found {found}")
    return digest


def _keep_signature(content: bytes | None, target: Path, digest: str) -> Path | None:
    path = target.with_name(f"{target.name}.sig")
    if content is not None:
        atomic_write(path, content)
        return path
    # That of an earlier file would have the right bundle refused; that of this one may have come another way.
    if path.exists() and not _is_of(path, digest):
        path.rename(target.with_name(f"{target.name}.sig.old"))
    return None


def _is_of(signature: Path, digest: str) -> bool:
    try:
        statement = read_signature(signature).statement
    except TrustError:
        return False
    return digest in (statement.digest, statement.delta_digest)
