"""What volumes are called: the bundle's name and a number, of files as of addresses (FORMAT.md, "Volumes")."""

from __future__ import annotations

import re
from pathlib import Path
from typing import overload

from bundler.remote.address import REGISTRY_SCHEMES, Address, Place

# At least three digits, so that a shell's glob lists them in order.
_SUFFIX = re.compile(r"(.+)\.([0-9]{3,})", re.DOTALL)


@overload
def volume_path(base: Path, number: int, count: int) -> Path: ...


@overload
def volume_path(base: Address, number: int, count: int) -> Address: ...


def volume_path(base: Place, number: int, count: int) -> Place:
    """Return the path of a volume, such as ``demo.tar.zst.001``; all names of a set have the same length."""
    suffix = f".{number:0{max(3, len(str(count)))}}"
    return base.beside(suffix) if isinstance(base, Address) else base.with_name(f"{base.name}{suffix}")


@overload
def volume_base(path: Path) -> Path | None: ...


@overload
def volume_base(path: Address) -> Address | None: ...


def volume_base(path: Place) -> Place | None:
    """Return the common name of the volumes that `path` is one of; None if it is not named as a volume.

    In a registry a bundle has no volumes.
    """
    match = _SUFFIX.fullmatch(path.name)
    if match is None:
        return None
    if isinstance(path, Address):
        return None if path.scheme in REGISTRY_SCHEMES else path.without(f".{match[2]}")
    return path.with_name(match[1])


def volume_files(base: Path) -> list[Path]:
    """Return the files that are named as volumes of `base`, in order of number; their content is not read."""
    try:
        found = [path for path in base.parent.iterdir() if volume_base(path) == base]
    except OSError:
        return []
    return sorted(found, key=lambda path: (parse_number(path), path.name))


def parse_number(path: Place) -> int:
    """Return the number in the name of a volume; 0 if it is not named as one."""
    match = _SUFFIX.fullmatch(path.name)
    return int(match[2]) if match else 0
