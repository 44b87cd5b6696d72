"""Verify what stands on a disk: a bundle file, all its volumes, or one volume alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bundler.files.parallel import available_cores
from bundler.format.reader import BundleReader
from bundler.format.storage.volumes import Volume, volumes_in
from bundler.verify.bundle_file import verify_bundle
from bundler.verify.report import Progress, Report, no_progress
from bundler.verify.volume import verify_volume


def verify_files(
    paths: Path | Sequence[Path],
    *,
    jobs: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Progress = no_progress,
    on_note: Callable[[str], None] = lambda note: None,
) -> Report:
    """Check every byte of a bundle: a file, its volumes, or one of its volumes alone.

    Args:
        paths: The file; volumes; or the name that volumes have in common. A single volume, where there are more, is
            checked by the digest that it carries.
        jobs: Threads; default all cores.
        on_total: Called once with the number of bytes that `progress` will add up to.
        progress: Called with the number of bytes checked since the last call.
        on_note: Told if only one of several volumes is checked.

    Returns:
        All that is missing, extra or changed, at once; `Report.raise_if_failed` makes an error of it.

    Raises:
        FormatError: Not a bundle, or one so damaged that it cannot be told what it should hold.
        LockError: The lock inside is malformed.
    """
    if (volume := _single_volume(paths)) is not None:
        on_note("one volume is checked alone; to check the whole bundle, name all volumes")
        on_total(volume.header.part_bytes)
        return verify_volume(volume, progress=progress)
    with BundleReader(paths) as reader:
        on_total(reader.index.tar_bytes)
        return verify_bundle(reader, jobs=jobs or available_cores(), progress=progress)


def _single_volume(paths: Path | Sequence[Path]) -> Volume | None:
    path, *more = [paths] if isinstance(paths, Path) else paths
    found = volumes_in(path) if not more and path.is_file() else []
    return found[0] if len(found) == 1 and found[0].header.count > 1 else None
