"""Parity of a bundle, by the names that people give it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

from bundler.errors import FormatError
from bundler.format.find import find_bundle
from bundler.format.index import CHUNK_HEADER_BYTES
from bundler.format.reader import BundleReader
from bundler.format.storage.volume_names import volume_base
from bundler.parity.make import ParityMade, make_parity
from bundler.parity.names import find_parity
from bundler.parity.repair import Repaired, repair


def make_bundle_parity(
    paths: Sequence[Path],
    share: Fraction,
    *,
    keep: bool = False,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
) -> ParityMade:
    """Write parity of a bundle beside it.

    Args:
        paths: The bundle, as commands take it: a file, or volumes, of which one or their name stands for all.
        share: As of `bundler.parity.make.make_parity`.
        keep: As of `make_parity`.
        on_total: As of `make_parity`.
        progress: As of `make_parity`.

    Raises:
        FormatError: It is no bundle, or its volumes are in several folders.
        BundleError: As of `make_parity`.
    """
    place = find_bundle(paths)
    with BundleReader(place) as reader:
        volumes, digest = list(reader.volumes), reader.digest
        pieces = [chunk.stored_bytes + CHUNK_HEADER_BYTES for chunk in reader.index.chunks]
    # Volumes that `cat` joined are one file.
    files = list(dict.fromkeys(volumes)) or ([place] if isinstance(place, Path) else list(place))
    if len({path.absolute().parent for path in files}) > 1:
        raise FormatError(
            f"expected the volumes in one folder, found some in {files[0].parent} and some in {files[-1].parent}",
            hint="make parity where all of them are, and carry it with them",
        )
    base = (volume_base(files[0]) if volumes else None) or files[0]
    return make_parity(files, base, digest, share, pieces=pieces, keep=keep, on_total=on_total, progress=progress)


def repair_bundle(
    path: Path,
    parity: Sequence[Path] = (),
    *,
    output: Path | None = None,
    jobs: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Repaired:
    """Rebuild what is lost or damaged of a bundle.

    Args:
        path: The file, one of the volumes, or their common name; it need not be there.
        parity: Files of parity besides those that are beside it.
        output: As of `bundler.parity.repair.repair`, like the others.
        jobs: As of `repair`.
        on_total: As of `repair`.
        progress: As of `repair`.
        on_note: As of `repair`.

    Raises:
        BundleError: As of `repair`.
    """
    base = volume_base(path) or path
    return repair(
        base,
        list(dict.fromkeys([*parity, *find_parity(base, [base.parent])])),
        output=output,
        jobs=jobs,
        on_total=on_total,
        progress=progress,
        on_note=on_note,
    )
