"""Find the bundle that a command means: the named file or volumes, or the only bundle in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from bundler.errors import FormatError, UsageError
from bundler.format.reader import BundleReader
from bundler.format.storage.volume_names import volume_base, volume_files
from bundler.format.storage.volumes import volumes_in
from bundler.remote.address import Address, Place


@overload
def find_bundle(places: Sequence[Path]) -> Path | list[Path]: ...


@overload
def find_bundle(places: Sequence[Place]) -> Place | list[Path]: ...


def find_bundle(places: Sequence[Place]) -> Place | list[Path]:
    """Return what to open: the named file, volumes or address, or the only bundle in the named or the current folder.

    Raises:
        FormatError: The folder has no bundle, several bundles, or a file and volumes that differ.
        UsageError: An address is not named alone.
    """
    addresses = [place for place in places if isinstance(place, Address)]
    if addresses and len(places) > 1:
        raise UsageError(
            f"{addresses[0]}: expected an address alone; volumes beside it are found by their numbers"
        )
    if addresses:
        return addresses[0]
    paths = [place for place in places if isinstance(place, Path)]
    if len(paths) > 1:
        return paths
    path = paths[0] if paths else Path()
    return find_only_bundle(path) if path.is_dir() else path


def find_only_bundle(folder: Path) -> Path:
    """Return the only bundle in `folder`: a file, or the common name of volumes.

    Raises:
        FormatError: There is no bundle, there are several, or a file and volumes of one name differ.
    """
    named = [base for path in folder.iterdir() if (base := volume_base(path)) and base.name.endswith(".zst")]
    found = sorted({*(path for path in folder.glob("*.tar.zst") if path.is_file()), *named})
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FormatError(
            f"expected exactly one *.tar.zst in {folder.absolute()}, found {names}",
            hint="name the bundle to install",
        )
    [bundle] = found
    if bundle.is_file() and (volumes := volume_files(bundle)):
        _check_same(bundle, volumes)
    return bundle


def read_digest(path: Place) -> str:
    """Return the digest of a bundle, without reading its content.

    Args:
        path: A bundle file, its address, the common name of volumes, or one volume.

    Raises:
        FormatError: It is not a bundle, or damaged.
    """
    volumes = volumes_in(path) if isinstance(path, Path) and path.is_file() else []
    if len(volumes) == 1:
        # The header of one volume has the digest, even if the other volumes are elsewhere.
        return volumes[0].header.digest
    with BundleReader(path) as reader:
        return reader.digest


def read_whole_digest(path: Place) -> str:
    """Return the digest that an installation of a bundle has (`bundler.format.index.Index`); no content is read.

    Raises:
        FormatError: It is no bundle, or damaged, or a volume whose others are not beside it.
    """
    with BundleReader(path) as reader:
        return reader.whole_digest


def _check_same(bundle: Path, volumes: list[Path]) -> None:
    with BundleReader(bundle) as one, BundleReader(volumes) as other:
        if one.digest != other.digest:
            raise FormatError(
                f"{bundle} is {one.digest}, and the volumes beside it are {other.digest}",
                hint=f"one of them is left from an older run: name {bundle.name} or {volumes[0].name}",
            )
