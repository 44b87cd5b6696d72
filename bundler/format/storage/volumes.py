"""Volumes: a bundle in several files, read as one without joining them (FORMAT.md, "Volumes").

Rule book:

* the header of a volume says which part of which bundle it is; its file name is only compared with that;
* a set is used only if it is complete and from one split; one error names all volumes that are missing, stale, swapped
  or of another bundle;
* volumes of a bundle are found by their exact names, so that no other file is used.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import BundleError, FormatError, UsageError
from bundler.format.index import PREAMBLE
from bundler.format.storage.remote import RemoteStored
from bundler.format.storage.remote_volumes import open_bundle
from bundler.format.storage.stored import OneFile, OpenFile, Stored
from bundler.format.storage.volume_faults import find_commonest, list_faults, refuse_set
from bundler.format.storage.volume_header import VOLUME_HEAD_BYTES, VolumeHeader, is_volume_head, parse_volume_head
from bundler.format.storage.volume_names import volume_base, volume_files
from bundler.remote.address import Address, Place


@dataclass(frozen=True)
class Volume:
    """A volume that was found.

    Attributes:
        path: The file.
        header: Its header.
        offset: Offset in the file at which its part of the bundle begins.
    """

    path: Path
    header: VolumeHeader
    offset: int


def volumes_in(path: Path, open_file: OpenFile = OneFile) -> list[Volume]:
    """Return the volumes in a file: one, several if `cat` joined them, or none if it is another kind of file.

    Args:
        path: The file.
        open_file: Opens it.

    Raises:
        FormatError: A volume is cut short, its header is damaged, or the file cannot be read.
    """
    stored = open_file(path)
    try:
        volumes: list[Volume] = []
        position = 0
        while position < stored.size_bytes:
            head = stored.read_at(position, min(VOLUME_HEAD_BYTES, stored.size_bytes - position))
            if not volumes and not is_volume_head(head):
                return []
            try:
                header = parse_volume_head(head)
            except FormatError as error:
                raise FormatError(f"{path}: {error.message}", hint=error.hint) from error
            volumes.append(Volume(path, header, position + VOLUME_HEAD_BYTES))
            position += VOLUME_HEAD_BYTES + header.part_bytes
            if position > stored.size_bytes:
                raise FormatError(
                    f"{path}: volume {header.number} of {header.count} is cut short: expected {position} bytes, "
                    f"found {stored.size_bytes}",
                    hint="copy this volume again",
                )
        return volumes
    finally:
        stored.close()


class VolumeSet(Stored):
    """All volumes of one bundle, read as the bundle that they were cut from (see `Stored`).

    A file is opened for each read, because a set may have more volumes than a process may have open files.

    Args:
        path: Name for messages: the common name of the volumes, if they have one.
        volumes: All volumes, in any order, checked by `list_faults`.
        open_file: Opens a volume.
    """

    def __init__(self, path: Path, volumes: Sequence[Volume], open_file: OpenFile = OneFile) -> None:
        self.path: Place = path
        self.volumes = sorted(volumes, key=lambda volume: volume.header.number)
        self.size_bytes = self.volumes[-1].header.stop
        self._open_file = open_file
        self._starts = [volume.header.start for volume in self.volumes]

    @property
    def digest(self) -> str:
        """The bundle's digest according to the volume headers; the index must agree."""
        return self.volumes[0].header.digest

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `start` of the bundle (see `Stored`)."""
        stop = start + len(target)
        if stop > self.size_bytes:
            raise FormatError(
                f"{self.path}: ends at byte {self.size_bytes}, expected {stop - self.size_bytes} more"
            )
        head = PREAMBLE[start:stop]
        target[: len(head)] = head
        position = start + len(head)
        while position < stop:
            volume = self._at(position)
            size = min(stop, volume.header.stop) - position
            stored = self._open_file(volume.path)
            try:
                part = target[position - start : position - start + size]
                stored.read_into(volume.offset + position - volume.header.start, part)
            finally:
                stored.close()
            position += size

    def file_at(self, start: int) -> Path:
        """Return the volume that holds the byte at `start`."""
        return self._at(start).path

    def expect(self, spans: Iterable[tuple[int, int]]) -> AbstractContextManager[object]:
        """Do nothing: the system reads ahead."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _at(self, position: int) -> Volume:
        return self.volumes[max(bisect_right(self._starts, position) - 1, 0)]


def open_stored(place: Place | Sequence[Place], open_file: OpenFile | None = None) -> Stored:
    """Open a bundle: a file, volumes, or what an address leads to.

    Args:
        place: A bundle file, or its address; or one of its volumes, with the others beside it; or the common name of
            the volumes; or a file of volumes joined by `cat`; or a list of all volumes.
        open_file: Opens files that need not be there as they are: a list of all of them, in whatever state.

    Raises:
        FormatError: It cannot be read, or its volumes are not a complete set; the message names all faults.
    """
    places = [place] if isinstance(place, Path | Address) else list(place)
    paths = [each for each in places if isinstance(each, Path)]
    if len(paths) < len(places):
        address = next(each for each in places if isinstance(each, Address))
        if len(places) > 1:
            raise UsageError(f"{address}: expected an address alone; volumes beside it are found by their numbers")
        return RemoteStored(*open_bundle(address))
    if len(paths) > 1:
        return _set_of(paths[0], paths, open_file=open_file or OneFile)
    path = paths[0]
    if open_file is not None:
        inside = volumes_in(path, open_file)
        return _check_set(path, inside, [], reference=None, open_file=open_file) if inside else open_file(path)
    if not path.exists():
        named = volume_files(path)
        return _set_of(path, named) if named else OneFile(path)
    if path.is_dir():
        raise FormatError(f"{path}: expected a bundle, found a folder")
    inside = volumes_in(path)
    if not inside:
        return OneFile(path)
    base = volume_base(path)
    if len(inside) == 1 and inside[0].header.count > 1 and base is not None:
        return _set_of(path, volume_files(base), reference=inside[0].header)
    return _check_set(path, inside, [], reference=inside[0].header)


def _set_of(
    path: Path, paths: Sequence[Path], *, reference: VolumeHeader | None = None, open_file: OpenFile = OneFile
) -> VolumeSet:
    volumes: list[Volume] = []
    complaints: list[str] = []
    for each in paths:
        try:
            inside = volumes_in(each, open_file)
            if not inside:
                complaints.append(f"{each}: is not a volume of a bundle")
            volumes += inside
        except BundleError as error:
            complaints.append(error.message)
    return _check_set(path, volumes, complaints, reference=reference, open_file=open_file)


def _check_set(
    path: Path,
    volumes: list[Volume],
    complaints: list[str],
    *,
    reference: VolumeHeader | None,
    open_file: OpenFile = OneFile,
) -> VolumeSet:
    """Check that volumes are one complete set, and return it.

    Raises:
        FormatError: They are not complete, or not from one split.
    """
    if volumes:
        reference = reference or find_commonest(volumes)
        complaints = complaints + list_faults(volumes, reference)
    bases = {volume_base(volume.path) for volume in volumes}
    if len(bases) == 1 and (base := bases.pop()):
        path = base
    if complaints or not volumes:
        raise refuse_set(path, complaints)
    return VolumeSet(path, volumes, open_file)
