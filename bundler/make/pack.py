"""Pack verified blobs and their lock into one bundle file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundler.files.parallel import available_cores
from bundler.files.space import report_full_disk
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.format.storage.destinations import Destination, FileDestination
from bundler.format.tar import tar_plan
from bundler.format.writer import ReadyChunks, write_bundle
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
        whole_digest: The digest that an installation has: of a delta that of the whole bundle.
    """

    path: Path
    size_bytes: int
    raw_bytes: int
    digest: str
    whole_digest: str

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
    ready: ReadyChunks | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> PackResult:
    """Write the bundle of a complete lock to `out`; after an error no incomplete file is left.

    Args:
        lock: A complete lock.
        blob_path: Where the content of a blob can be read; it is checked against the lock while it is packed.
        out: The file to write; one that exists is replaced once the new one is whole. Or volumes, or a pipe.
        base: Leave out what this has: the bundle becomes a delta, which installs where the base is installed. The
            whole bundle is packed too then, without being written, so that the delta can say what it leads to.
        codec: "auto" stores weights in byte planes; "zstd" lets stock tools unpack everything.
        level: zstd level.
        jobs: Threads; default `available_cores()`.
        ready: What was encoded before, by the same codec and level.
        progress: Called with the number of tar-stream bytes done since the last call; of a delta, with those of the
            whole bundle before.

    Raises:
        IntegrityError: A blob does not match the lock.
        LockError: The lock is incomplete.
        SpaceError: The disk is full; the incomplete bundle was removed.
    """
    omitted = base.omitted_from(lock) if base else None
    plan = tar_plan(lock, omitted)
    destination = FileDestination(out) if isinstance(out, Path) else out
    full = report_full_disk(
        destination.path,
        f"{destination.path}: the file system is full; the half-written bundle was removed",
        hint=f"a bundle needs at most {plan.size_bytes:,} bytes: choose another folder with --output",
    )
    write = partial(
        write_bundle,
        lock,
        blob_path=blob_path,
        codec=codec,
        level=level,
        jobs=jobs or available_cores(),
        ready=ready,
        progress=progress,
    )
    whole = write(plan=tar_plan(lock), out=_Nowhere()) if base else None
    with full, destination.open() as stream:
        record = base.record(omitted) if base and omitted is not None else None
        index = write(plan=plan, out=stream, base=record, whole=whole)
        size_bytes = stream.tell()
    return PackResult(destination.path, size_bytes, plan.size_bytes, index.digest, index.whole_digest)


class _Nowhere:
    """Takes a bundle of which only the index is wanted."""

    def __init__(self) -> None:
        self._written = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Count all of `data`."""
        self._written += len(data)

    def tell(self) -> int:
        """Return how many bytes were counted."""
        return self._written
