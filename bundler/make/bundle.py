"""A manifest becomes a bundle: lock, fetch, prove, pack. All of `bundle fetch` but its words.

Rule book:

* what can be told before the first download is told there: a lock that does not fit, a missing package, a folder that
  takes no file, a disk that is too small;
* the lock is written before the first download, so that an interrupted run goes on with its commits, and again with
  our own digests once all files are proven to load; under ``insist`` it is never written;
* nothing is packed that was not proven to load without a network;
* each stage keeps what it finished in the store, and takes it from there in the next run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bundler.errors import UsageError
from bundler.files.access import check_writable
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.format.storage.destinations import (
    Destination,
    FileDestination,
    PipeDestination,
    VolumeDestination,
)
from bundler.hub.connection.endpoint import check_endpoint
from bundler.make.delta import Base
from bundler.make.fetch import DEFAULT_JOBS, FetchResult, RepoPlan, fetch, plan
from bundler.make.lock import Locked, LockMode, lock_manifest
from bundler.make.observer import Observer
from bundler.make.pack_once import Packed, pack_once
from bundler.make.proof.prepared import prepare
from bundler.make.proof.proven import prove_once
from bundler.make.proof.run import Proof, check_packages
from bundler.make.store import Store
from bundler.plan.lock import Lock


@dataclass(frozen=True, kw_only=True)
class BundlePlan:
    """What making a bundle would do.

    Attributes:
        locked: What the manifest was resolved to.
        repos: What would be downloaded, entry by entry.
        base: What would be left out, or None.
        store: Where downloads are staged.
    """

    locked: Locked
    repos: tuple[RepoPlan, ...]
    base: Base | None
    store: Store

    @property
    def download_bytes(self) -> int:
        """What would be downloaded, in all."""
        return sum(repo.missing_bytes for repo in self.repos)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A bundle, and how it came about.

    Attributes:
        locked: The lock inside, with the digest of every file, and where it stands beside the manifest.
        fetched: What was downloaded.
        proof: What was shown to load without a network.
        packed: The bundle.
        volumes: Its files, where it is in volumes.
    """

    locked: Locked
    fetched: FetchResult
    proof: Proof
    packed: Packed
    volumes: tuple[Path, ...]

    @property
    def lock(self) -> Lock:
        """The lock inside."""
        return self.locked.lock

    @property
    def path(self) -> Path:
        """The bundle file; the name that volumes have in common; ``-`` for a pipe."""
        return self.packed.result.path

    @property
    def digest(self) -> str:
        """The bundle's digest, ``sha256:<hex>``."""
        return self.packed.result.digest


def plan_bundle(
    manifest_path: Path,
    *,
    mode: LockMode = "reuse",
    base: Path | None = None,
    store: Path | None = None,
    endpoint: str | None = None,
    token: str | bool | None = None,
    observer: Observer | None = None,
) -> BundlePlan:
    """Find out what `make_bundle` with the same arguments would do; nothing is downloaded, and no lock written.

    Raises:
        BundleError: As `lock_manifest` and `Base.open` do.
    """
    check_endpoint()
    old = Base.open(base) if base is not None else None
    staging = Store(Store.default_root(store))
    locked = lock_manifest(manifest_path, mode=mode, endpoint=endpoint, token=token, observer=observer)
    return BundlePlan(locked=locked, repos=tuple(plan(locked.lock, staging)), base=old, store=staging)


def make_bundle(
    manifest_path: Path,
    out: Path | PipeDestination | None = None,
    *,
    mode: LockMode = "reuse",
    base: Path | None = None,
    volume_bytes: int | None = None,
    codec: CodecChoice = "auto",
    level: int = DEFAULT_LEVEL,
    store: Path | None = None,
    jobs: int = DEFAULT_JOBS,
    endpoint: str | None = None,
    token: str | bool | None = None,
    observer: Observer | None = None,
) -> Made:
    """Download what a manifest asks for, check it, prove that it loads offline, and pack one bundle.

    Args:
        manifest_path: The manifest; its lock is written beside it.
        out: The bundle; by default ``NAME.tar.zst`` in the current folder.
        mode: What to do with the lock that is there: ``reuse`` its commits, ``upgrade`` to the newest, or ``insist``
            that it fits, and leave it alone.
        base: Pack only what this lacks: the bundle carried over before, its lock, or its receipt.
        volume_bytes: Write volumes, none longer than this, with ``out`` as their common name.
        codec: ``auto`` stores weights as byte planes; ``zstd`` lets `tar --zstd` alone unpack the bundle.
        level: zstd level, 1 to 22.
        store: Where downloads are staged; by default BUNDLE_CACHE, else ``~/.cache/bundle``.
        jobs: How many files to download at once.
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.
        token: As in huggingface_hub: None for the environment's or the logged-in one, False for none.
        observer: Told how it goes.

    Raises:
        ManifestError: The manifest is malformed, or does not fit what the Hub has.
        LockError: The lock is damaged, or does not fit (``insist``).
        HubError: The Hub refused.
        NetworkError: It cannot be reached.
        IntegrityError: It sends other bytes than it published, or than the lock names.
        ProofError: Something does not load without a network: no bundle was written.
        DependencyError: A package that the proof needs is not installed: nothing was downloaded.
        SpaceError: There is not enough room.
        UsageError: A folder takes no file, a volume is too small for what must be in one, or a pipe cannot be cut.
    """
    watcher = observer or Observer()
    planned = plan_bundle(
        manifest_path, mode=mode, base=base, store=store, endpoint=endpoint, token=token, observer=watcher
    )
    destination = _destination(out or Path(f"{planned.locked.lock.name}.tar.zst"), volume_bytes)
    fetched = _fetch(planned, destination, jobs, endpoint, token, watcher)
    locked, proof = _prove(planned, fetched.lock, mode, watcher)
    watcher.begin("pack", f"packing {destination.path}", sum(repo.size_bytes for repo in locked.lock.repos))
    packed = pack_once(
        locked.lock,
        planned.store,
        destination,
        base=planned.base,
        codec=codec,
        level=level,
        progress=watcher.progress,
    )
    volumes = tuple(destination.volumes) if isinstance(destination, VolumeDestination) else ()
    return Made(locked=locked, fetched=fetched, proof=proof, packed=packed, volumes=volumes)


def _fetch(
    planned: BundlePlan,
    destination: Destination,
    jobs: int,
    endpoint: str | None,
    token: str | bool | None,
    watcher: Observer,
) -> FetchResult:
    """Find what would stop the work later, write the lock, and bring every file into the store."""
    lock, store = planned.locked.lock, planned.store
    check_packages(lock)
    folder = None if isinstance(destination, PipeDestination) else destination.path.absolute().parent
    if folder is not None:
        check_writable(folder)
    # Under `insist` this is the lock that stands there.
    planned.locked.write()
    store.sweep()
    return fetch(lock, store, jobs=jobs, bundle_folder=folder, endpoint=endpoint, token=token, observer=watcher)


def _prove(planned: BundlePlan, lock: Lock, mode: LockMode, watcher: Observer) -> tuple[Locked, Proof]:
    """Complete `lock`, whose files are in the store, with its prepared datasets, and show that all of it loads."""
    watcher.begin("prove", "preparing datasets and proving that everything loads offline")
    complete = prepare(lock, planned.store, insist=mode == "insist")
    proof = prove_once(complete, planned.store)
    locked = replace(planned.locked, lock=complete, previous=planned.locked.lock)
    if mode != "insist":
        locked.write()
    return locked, proof


def _destination(out: Path | PipeDestination, volume_bytes: int | None) -> Destination:
    if isinstance(out, Path):
        return FileDestination(out) if volume_bytes is None else VolumeDestination(out, volume_bytes)
    if volume_bytes is not None:
        raise UsageError("a pipe takes a bundle in one piece", hint="write volumes to files")
    return out
