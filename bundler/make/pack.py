"""Pack verified blobs and their lock into one bundle file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bundler.files.parallel import available_cores
from bundler.files.space import report_full_disk
from bundler.format.base_records import BaseRecord
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.format.codec.safetensors import Run
from bundler.format.contents.bases import Bases
from bundler.format.cut import choose_runs
from bundler.format.index import Index
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import Destination, FileDestination, Sink
from bundler.format.tar import TarPlan, tar_plan
from bundler.format.writer import ReadyChunks, write_bundle
from bundler.make.bases.choose import ReadyBut, choose_bases
from bundler.make.bases.find import FoundBases
from bundler.make.delta import Base
from bundler.plan.layout import Blob, layout
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
        needs_base: Whether it leaves content out, or stores some as the difference from what is not in it.
    """

    path: Path
    size_bytes: int
    raw_bytes: int
    digest: str
    whole_digest: str
    needs_base: bool

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
    stored: Mapping[Blob, Path] | None = None,
    codec: CodecChoice = "auto",
    level: int = DEFAULT_LEVEL,
    jobs: int | None = None,
    ready: ReadyChunks | None = None,
    progress: Callable[[int], None] = lambda count: None,
    approve: Callable[[], object] = lambda: None,
) -> PackResult:
    """Write the bundle of a complete lock to `out`; after an error no incomplete file is left.

    Args:
        lock: A complete lock.
        blob_path: Where the content of a blob can be read; it is checked against the lock while it is packed.
        out: The file to write; one that exists is replaced once the new one is whole. Or volumes, or a pipe.
        base: Leave out what this has: the bundle becomes a delta, which installs where the base is installed. The
            whole bundle is packed too then, without being written, so that the delta can say what it leads to.
        stored: Contents of the base that the lock has not -> verified files: new weights may be stored as differences
            from them. Where the base is a bundle, contents are read from it too.
        codec: "auto" stores weights in byte planes; "zstd" lets stock tools unpack everything.
        level: zstd level.
        jobs: Threads; default `available_cores()`.
        ready: What was encoded before, by the same codec and level.
        progress: Called with the number of tar-stream bytes done since the last call; of a delta, with those of the
            whole bundle before.
        approve: Called when all is written, before files get their names; what it raises leaves none.

    Raises:
        IntegrityError: A blob does not match the lock.
        LockError: The lock is incomplete.
        SpaceError: The disk is full; the incomplete bundle was removed.
    """
    destination = FileDestination(out) if isinstance(out, Path) else out
    job = _Job(lock, blob_path, codec, level, jobs or available_cores(), ready, progress)
    omitted = base.omitted_from(lock) if base else None
    whole = job.write(job.plan(), _Nowhere()) if base else None
    with base.open_bundle() if base else nullcontext() as older:
        plan = job.plan(omitted, older, stored)
        with _report_full(destination, plan.tar), destination.open() as stream:
            record = base.record(omitted) if base and omitted is not None else None
            index = job.write(plan, stream, record, whole)
            size_bytes = stream.tell()
            approve()
    return PackResult(
        destination.path,
        size_bytes,
        plan.tar.size_bytes,
        index.digest,
        index.whole_digest,
        base is not None and needs_base(plan.tar, omitted, plan.found.bases),
    )


def _report_full(destination: Destination, plan: TarPlan) -> AbstractContextManager[None]:
    return report_full_disk(
        destination.path,
        f"{destination.path}: the file system is full; the half-written bundle was removed",
        hint=f"a bundle needs at most {plan.size_bytes:,} bytes: choose another folder with --output",
    )


def needs_base(plan: TarPlan, omitted: frozenset[str] | None, bases: Bases) -> bool:
    """Tell whether a delta leaves contents out, or has differences from contents that are not in it."""
    return bool(omitted) or any(base not in plan.first_of for found in bases.values() for base in found)


@dataclass(frozen=True)
class _Plan:
    tar: TarPlan
    found: FoundBases


@dataclass(frozen=True)
class _Job:
    """All that is the same for a delta, and for the whole bundle that it leads to."""

    lock: Lock
    blob_path: Callable[[Blob], Path]
    codec: CodecChoice
    level: int
    jobs: int
    ready: ReadyChunks | None
    progress: Callable[[int], None]

    def plan(
        self,
        omitted: frozenset[str] | None = None,
        older: BundleReader | None = None,
        stored: Mapping[Blob, Path] | None = None,
    ) -> _Plan:
        found = FoundBases({}, {})
        if self.codec != "zstd":
            found = choose_bases(
                layout(self.lock).blobs, self.blob_path, omitted=omitted or frozenset(), older=older, stored=stored
            )
        tar = tar_plan(self.lock, omitted, found.bases)
        if not found.bases:
            # A writer looks up nothing else in it, and of 100,000 files it takes 20 MB.
            tar.first_of.clear()
        return _Plan(tar, found)

    def write(self, plan: _Plan, out: Sink, base: BaseRecord | None = None, whole: Index | None = None) -> Index:
        otherwise = choose_runs(self.codec, self.blob_path)

        def runs_of(blob: Blob) -> list[Run]:
            return plan.found.runs.get(blob.sha256) or otherwise(blob)

        return write_bundle(
            self.lock,
            plan.tar,
            self.blob_path,
            out,
            base=base,
            whole=whole,
            level=self.level,
            jobs=self.jobs,
            ready=ReadyBut(self.ready, plan.found) if self.ready is not None else None,
            runs_of=runs_of,
            progress=self.progress,
        )


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
