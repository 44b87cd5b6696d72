"""Split a bundle into volumes, and join volumes into one file; bytes and digest stay the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import UsageError
from bundler.files.space import check_room
from bundler.format.reader import BundleReader
from bundler.format.replaced import Replaced, find_replaced
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import Destination, FileDestination, VolumeDestination
from bundler.format.storage.volume_names import volume_base


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A copied bundle; the original stays.

    Attributes:
        source: The original: its file, or its first volume.
        path: The new file, or the common name of the new volumes.
        volumes: The new volumes, in order; empty if one file was made.
        digest: The bundle's digest.
        size_bytes: The bundle's length.
        replaced: What stood in its place, and is gone; None if nothing did.
    """

    source: Path
    path: Path
    volumes: tuple[Path, ...]
    digest: str
    size_bytes: int
    replaced: Replaced | None


def split_bundle(
    place: Path | Sequence[Path],
    volume_bytes: int,
    out: Path | None = None,
    *,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
) -> Copied:
    """Split a bundle into volumes.

    Args:
        place: The bundle: a file, or volumes of another size.
        volume_bytes: The longest that a volume may be.
        out: The name of the new volumes, without a number; by default that of the bundle.
        on_total: Called once with the total number of bytes that `progress` will report.
        progress: Called with the number of bytes copied since the last call.

    Raises:
        FormatError: It is not a bundle, or damaged; no volume is left.
        UsageError: The new volumes would have the names of the old ones, or `volume_bytes` is too small.
        SpaceError: There is not enough free space.
    """
    with BundleReader(place) as reader:
        old = {volume_base(path.resolve()) for path in reader.volumes}
        path = out or (volume_base(reader.volumes[0]) if reader.volumes else None) or _path(reader)
        if path.resolve() in old:
            raise UsageError(
                f"the new volumes would take the names of the old ones, {reader.volumes[0]} and so on",
                hint="name another place with --output",
            )
        destination = VolumeDestination(path, volume_bytes, sole=False)
        return _copy(reader, destination, on_total, progress)


def join_bundle(
    place: Path | Sequence[Path],
    out: Path | None = None,
    *,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
) -> Copied:
    """Join volumes into one file.

    Args:
        place: All volumes; or only the first one, or their common name.
        out: The file; by default the common name of the volumes.
        on_total: Called once with the total number of bytes that `progress` will report.
        progress: Called with the number of bytes copied since the last call.

    Raises:
        FormatError: It is not a bundle, or damaged; no file is left.
        UsageError: `place` is not in volumes, or `out` is one of them.
        SpaceError: There is not enough free space.
    """
    with BundleReader(place) as reader:
        path = out or (volume_base(reader.volumes[0]) if reader.volumes else None)
        if path is None or path.resolve() in {source.resolve() for source in (reader.volumes or [_path(reader)])}:
            raise UsageError(
                f"{reader.path}: expected volumes, and another name for the result", hint="use --output"
            )
        return _copy(reader, FileDestination(path, sole=False), on_total, progress)


def _path(reader: BundleReader) -> Path:
    assert isinstance(reader.path, Path), "opened by a path"
    return reader.path


def _copy(
    reader: BundleReader,
    destination: Destination,
    on_total: Callable[[int], None],
    progress: Callable[[int], None],
) -> Copied:
    check_room({destination.path.absolute().parent: reader.size_bytes})
    on_total(reader.size_bytes)
    replaced = find_replaced(destination)
    copy_bundle(reader, destination, progress=progress)
    return Copied(
        source=_path(reader),
        path=destination.path,
        volumes=tuple(destination.volumes) if isinstance(destination, VolumeDestination) else (),
        digest=reader.digest,
        size_bytes=reader.size_bytes,
        replaced=replaced,
    )
