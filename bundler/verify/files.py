"""Verify a bundle on disk: a file, all volumes, or a single volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from bundler.errors import UsageError
from bundler.files.parallel import available_cores
from bundler.format.reader import BundleReader
from bundler.format.storage.volumes import Volume, volumes_in
from bundler.remote.address import Address, Place
from bundler.text.wording import counted, name_some
from bundler.verify.bundle_file import verify_bundle
from bundler.verify.report import Progress, Report, no_progress
from bundler.verify.volume import verify_volume


def verify_files(
    paths: Place | Sequence[Path],
    *,
    base: Path | None = None,
    jobs: int | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    progress: Progress = no_progress,
    on_note: Callable[[str], None] = lambda note: None,
) -> Report:
    """Check every byte of a bundle: a file, all its volumes, a single volume, or what an address leads to.

    Args:
        paths: The file or its address, the volumes, or the common name of volumes. A single volume of several is
            checked against the digest in its header.
        base: A bundle with content that a delta stores others as differences from. Without, of these only the stored
            bytes are checked, and the report counts them.
        jobs: Number of threads; by default one per core.
        on_total: Called once with the total number of bytes that `progress` will report.
        progress: Called with the number of bytes checked since the last call.
        on_note: Called with a note if only one of several volumes is checked.

    Returns:
        A report of everything missing, extra or changed; `Report.raise_if_failed` raises an error for it.

    Raises:
        FormatError: It is not a bundle, or so damaged that its content cannot be known.
        LockError: The lock inside is malformed.
        UsageError: `base` lacks content that the delta needs.
    """
    if (volume := _find_single_volume(paths)) is not None:
        on_note("only one volume is checked; to check the whole bundle, name all volumes")
        on_total(volume.header.part_bytes)
        return verify_volume(volume, progress=progress)
    with BundleReader(paths) as reader, nullcontext() if base is None else BundleReader(base) as older:
        if older:
            _check_base(reader, older)
            reader.elsewhere = older.contents
        on_total(reader.index.tar_bytes)
        return verify_bundle(reader, jobs=jobs or available_cores(), progress=progress)


def _check_base(delta: BundleReader, base: BundleReader) -> None:
    """Refuse a base that lacks what the delta leaves out, or what differences in it are taken from."""
    needed = {sha256 for found in delta.bases.values() for sha256 in found} | (delta.omitted or frozenset())
    # By its lock: a base that is a delta itself stands for contents that its file has not.
    lacking = sorted(needed - set(delta.plan.first_of) - {blob.sha256 for blob in base.plan.layout.blobs})
    if not lacking:
        return
    record = delta.base
    named = f"{record.name} ({record.digest or 'known by its lock'})" if record else "none"
    raise UsageError(
        f"{base.label} is not the base of {delta.label}: it lacks {counted(len(lacking), 'content')} that the delta "
        f"needs, {name_some(lacking)}; the delta was made against {named}",
        hint="give that bundle with --base; without --base what is stored is checked alone",
    )


def _find_single_volume(paths: Place | Sequence[Path]) -> Volume | None:
    if isinstance(paths, Address):
        return None
    path, *more = [paths] if isinstance(paths, Path) else paths
    found = volumes_in(path) if not more and path.is_file() else []
    return found[0] if len(found) == 1 and found[0].header.count > 1 else None
