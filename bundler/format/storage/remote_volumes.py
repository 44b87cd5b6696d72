"""A bundle behind an address: whole, or in volumes beside each other, which are read as one.

Rule book:

* what stands at the address itself goes before volumes of its name, also where one may not look at it (401, 403);
* a volume is named by its number (`bundler.format.storage.volume_names`): nothing is listed, which web servers cannot;
* volumes are one bundle only if their headers say so, as those in files are; one error names all that is wrong.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from bundler.errors import FormatError, RemoteError
from bundler.format.index import PREAMBLE
from bundler.format.storage.volume_faults import list_faults, refuse_set
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader, is_volume_head, parse_volume_head
from bundler.format.storage.volume_names import parse_number, volume_base
from bundler.remote.address import REGISTRY_SCHEMES, Address
from bundler.remote.joined import JoinedObject
from bundler.remote.object import RemoteObject
from bundler.remote.opening import ABSENT, NOT_THERE, open_remote
from bundler.remote.slice import Slice

# Each takes a request to open it, and how many there are is what the first one says.
MOST_VOLUMES = 999


@dataclass(frozen=True)
class RemoteVolume:
    """A volume at an address.

    Attributes:
        path: The address.
        header: Its header.
        source: What it is read by.
        offset: Offset there at which its part of the bundle begins.
    """

    path: Address
    header: VolumeHeader
    source: RemoteObject
    offset: int = VOLUME_HEAD_BYTES


def open_bundle(address: Address, *, is_read_whole: bool = False) -> tuple[RemoteObject, Address]:
    """Open the bundle that an address leads to; return also its own address, which of a volume is the common name.

    Args:
        address: That of the bundle, of one of its volumes, or the common name of the volumes.
        is_read_whole: As `bundler.remote.opening.open_remote` takes it.

    Raises:
        NetworkError: The server cannot be reached.
        RemoteError: It refused; where neither the bundle nor a first volume is there, what it said of the bundle.
        FormatError: Its volumes are not a complete set; the message names all faults.
    """
    try:
        found = open_remote(address, is_read_whole=is_read_whole)
    except RemoteError as error:
        is_file = address.scheme not in REGISTRY_SCHEMES and not address.parts.path.endswith("/")
        if not is_file or error.status not in NOT_THERE:
            raise
        named = address.beside(".001")
        try:
            first = open_remote(named)
        except RemoteError as other:
            raise (error if other.status in NOT_THERE else other) from None
        return _open_set(address, named, first), address
    base = volume_base(address)
    with ExitStack() as opened:
        opened.callback(found.close)
        is_volume = base is not None and is_volume_head(_read_head(found))
        opened.pop_all()
    return (_open_set(base, address, found), base) if base is not None and is_volume else (found, address)


def find_volume(address: Address) -> VolumeHeader | None:
    """Return the header of the whole volume at an address; None where there is none, or another object.

    Raises:
        NetworkError, RemoteError: It cannot be told.
    """
    try:
        source = open_remote(address)
    except RemoteError as error:
        if error.status not in ABSENT:
            raise
        return None
    try:
        # Of one whose length is not known it is not known either whether it is whole.
        return _read_header(source, address) if source.size_bytes is not None else None
    except FormatError:
        return None
    finally:
        source.close()


def _open_set(base: Address, named: Address, first: RemoteObject) -> RemoteObject:
    """Open all volumes of `base`; `first` is what stands at `named`, which is one of them. It is closed with them."""
    with ExitStack() as opened:
        opened.callback(first.close)
        reference = _read_header(first, named)
        if reference.count > MOST_VOLUMES:
            raise FormatError(
                f"{named}: says that there are {reference.count:,} volumes, expected at most {MOST_VOLUMES}",
                hint="bring them into a folder, and name that",
            )
        digits = len(named.name) - len(base.name) - 1
        volumes, complaints = [RemoteVolume(named, reference, first)], []
        for number in range(1, reference.count + 1):
            address = base.beside(f".{number:0{digits}}")
            if number == parse_number(named):
                continue
            try:
                source = open_remote(address, beside=first)
                opened.callback(source.close)
                volumes.append(RemoteVolume(address, _read_header(source, address), source))
            except RemoteError as error:
                if error.status not in NOT_THERE:
                    raise
            except FormatError as error:
                complaints.append(error.message)
        complaints += list_faults(volumes, reference)
        if complaints:
            raise refuse_set(base, complaints, hint="send all volumes of one bundle to that address")
        opened.pop_all()
    return _join(base, sorted(volumes, key=lambda volume: volume.header.number))


def _join(base: Address, volumes: list[RemoteVolume]) -> JoinedObject:
    # The first volume begins as the bundle does.
    parts = [Slice(volumes[0].source, 0, len(PREAMBLE))]
    parts += [Slice(each.source, each.offset, each.offset + each.header.part_bytes) for each in volumes]
    sizes = [len(PREAMBLE), *(volume.header.part_bytes for volume in volumes)]
    joined = JoinedObject(parts, sizes, f"{base} {volumes[0].header.digest}")
    joined.label = str(base)
    joined.bundle_digest = volumes[0].header.digest
    return joined


def _read_header(source: RemoteObject, address: Address) -> VolumeHeader:
    try:
        header = parse_volume_head(_read_head(source))
    except FormatError as error:
        raise FormatError(f"{address}: {error.message}", hint=error.hint) from error
    size = VOLUME_HEAD_BYTES + header.part_bytes
    if source.size_bytes not in (None, size):
        raise FormatError(
            f"{address}: volume {header.number} of {header.count} has another length: expected {size} bytes, found "
            f"{source.size_bytes}",
            hint="send this volume again",
        )
    return header


def _read_head(source: RemoteObject) -> bytes:
    size = VOLUME_HEAD_BYTES if source.size_bytes is None else min(VOLUME_HEAD_BYTES, source.size_bytes)
    head = bytearray(size)
    if source.has_ranges:
        source.read_into(0, memoryview(head))
        return bytes(head)
    done = 0
    with source.stream() as body:
        while done < len(head) and (count := body.readinto(memoryview(head)[done:])):
            done += count
    return bytes(head[:done])
