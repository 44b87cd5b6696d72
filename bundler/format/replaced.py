"""What stands where a bundle is about to be written, so that it can be said what is replaced."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import BundleError
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import Destination


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """Files that a new bundle takes the place of.

    Attributes:
        paths: Which; volumes that are deleted among them.
        size_bytes: Their sizes together.
        digest: Digest of the bundle that they are; None where they are none, or a damaged one.
    """

    paths: tuple[Path, ...]
    size_bytes: int
    digest: str | None


def find_replaced(destination: Destination) -> Replaced | None:
    """Return what a bundle that is written to `destination` would replace; None where nothing is there."""
    paths = destination.replaces()
    if not paths:
        return None
    digest = None
    # Volumes beside a file of that name are of an older run: the file is what was there.
    place = destination.path if destination.path in paths else paths
    with contextlib.suppress(BundleError, OSError), BundleReader(place) as reader:
        digest = reader.digest
    return Replaced(paths=tuple(paths), size_bytes=sum(path.lstat().st_size for path in paths), digest=digest)
