"""Pack verified blobs and their lock into one bundle file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundler.files.parallel import available_cores
from bundler.files.space import report_full_disk
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.format.storage.destinations import Destination, FileDestination
from bundler.format.tar import tar_plan
from bundler.format.writer import write_bundle
from bundler.make.delta import Base
from bundler.plan.layout import Blob
from bundler.plan.lock import Lock


@dataclass(frozen=True)
class PackResult:
    """The bundle that was written.

    Attributes:
        path: The bundle file; the common name of volumes; ``-`` for a pipe.
        size_bytes: Length of the bundle.
        raw_bytes: Length of the tar stream that it decodes to.
        digest: The bundle's digest, ``sha256:<hex>``.
    """

    path: Path
    size_bytes: int
    raw_bytes: int
    digest: str

    @property
    def ratio(self) -> float:
        """Length of the tar stream divided by that of the bundle."""
        return self.raw_bytes / self.size_bytes


def pack(
    lock: Lock,
    blob_path: Callable[[Blob], Path],
    out: Path | Destination,
    *,
    base: Base | None = None,
    codec: CodecChoice = "auto",
    level: int = DEFAULT_LEVEL,
    jobs: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> PackResult:
    """Write the bundle of a complete lock to `out`; after an error no incomplete file is left.

    Args:
        lock: A complete lock.
        blob_path: Returns the path of a blob's content, which is checked against the lock while it is packed.
        out: A file, volumes or a pipe. An existing file is replaced when the new one is complete.
        base: Leave out the contents of this base: the bundle becomes a delta, which installs where the base is
            installed.
        codec: "auto" stores weights as byte planes; with "zstd" the standard tools can unpack everything.
        level: zstd level, 1 to 22.
        jobs: Number of threads; by default `available_cores()`.
        progress: Called with the number of tar-stream bytes done since the last call.

    Raises:
        IntegrityError: A blob does not match the lock.
        LockError: The lock is incomplete.
        SpaceError: The disk is full; the incomplete bundle was removed.
    """
    omitted = base.omitted_from(lock) if base else None
    plan = tar_plan(lock, omitted)
    destination = FileDestination(out) if isinstance(out, Path) else out
    full = report_full_disk(
        f"{destination.path}: the file system is full; the half-written bundle was removed",
        hint=f"a bundle needs at most {plan.size_bytes:,} bytes: choose another folder with --output",
    )
    with full, destination.open() as stream:
        index = write_bundle(
            lock,
            plan,
            blob_path,
            stream,
            base=base.record(omitted) if base and omitted is not None else None,
            codec=codec,
            level=level,
            jobs=jobs or available_cores(),
            progress=progress,
        )
        size_bytes = stream.tell()
    return PackResult(destination.path, size_bytes, plan.size_bytes, index.digest)
