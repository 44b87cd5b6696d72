"""Make a bundle from a manifest: lock, fetch, prove, pack. `bundle fetch` parses options, calls this and prints.

Rule book:

* everything that can be checked before the first download is checked then: a lock that does not fit, a missing package,
  a folder that cannot be written to, too little free space;
* the lock is written before the first download, so that an interrupted run can continue with its commits, and again,
  with our own digests, when all files are proven to load; with ``insist`` it is never written;
* a bundle gets its name only when its files are proven to load without a network, and the user's own commands, if any,
  ran on them. Entries may still be loading while it is written; a pipe gets nothing before;
* each stage keeps its finished work in the store, and the next run uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.files.access import check_writable
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.format.replaced import Replaced
from bundler.format.storage.destinations import (
    FileDestination,
    PipeDestination,
    VolumeDestination,
)
from bundler.make.ahead import Ahead
from bundler.make.bundle_plan import BundlePlan, plan_bundle
from bundler.make.delta import Base
from bundler.make.fetch import DEFAULT_JOBS, FetchResult, fetch
from bundler.make.lock import Locked, LockMode
from bundler.make.observer import Observer
from bundler.make.pack_once import Packed, pack_once
from bundler.make.pickles import PickleScan, can_scan, list_pickles, scan_pickles
from bundler.make.proof.command import CommandProof, list_program_files
from bundler.make.proof.process.confinement import SandboxChoice, choose_confinement
from bundler.make.proof.run import Proof, check_packages
from bundler.make.proof.stage import Proving, begin_proof
from bundler.offline.sandbox.limits import DEFAULT_MINUTES
from bundler.plan.layout import layout
from bundler.plan.lock import Lock
from bundler.remote.address import Place
from bundler.text.wording import counted


@dataclass(frozen=True, kw_only=True)
class Made:
    """A bundle that was made, and the result of each stage.

    Attributes:
        locked: The lock inside, with the digest of every file, and its path beside the manifest.
        fetched: What was downloaded.
        proof: What was proven to load without a network.
        commands: Those of the user's that ran on all of it.
        pickles: What a scanner says of its pickle files; empty if picklescan is not installed.
        packed: The bundle that was packed.
        volumes: Its files, if it is in volumes; else empty.
        replaced: What stood in its place; None if nothing did, or the bundle itself.
        base: Of a delta, what it leaves content out against.
    """

    locked: Locked
    fetched: FetchResult
    proof: Proof
    commands: tuple[CommandProof, ...]
    pickles: tuple[PickleScan, ...]
    packed: Packed
    volumes: tuple[Path, ...]
    replaced: Replaced | None
    base: Base | None

    @property
    def lock(self) -> Lock:
        """The lock inside."""
        return self.locked.lock

    @property
    def path(self) -> Path:
        """The bundle file; the common name of volumes; ``-`` for a pipe."""
        return self.packed.result.path

    @property
    def digest(self) -> str:
        """The bundle's digest, ``sha256:<hex>``."""
        return self.packed.result.digest

    @property
    def whole_digest(self) -> str:
        """The digest that an installation has: of a delta that of the whole bundle."""
        return self.packed.result.whole_digest


def make_bundle(
    manifest_path: Path,
    out: Path | PipeDestination | None = None,
    *,
    mode: LockMode = "reuse",
    base: Place | None = None,
    volume_bytes: int | None = None,
    codec: CodecChoice = "auto",
    level: int = DEFAULT_LEVEL,
    store: Path | None = None,
    from_cache: Path | None = None,
    jobs: int = DEFAULT_JOBS,
    endpoint: str | None = None,
    token: str | bool | None = None,
    sandbox: SandboxChoice = "auto",
    prove: Sequence[str] = (),
    proof_minutes: float = DEFAULT_MINUTES,
    observer: Observer | None = None,
) -> Made:
    """Download what a manifest asks for, check it, prove that it loads offline, and pack one bundle.

    Args:
        manifest_path: The manifest; its lock is written beside it.
        out: The bundle; by default ``NAME.tar.zst``, of a delta ``NAME.delta.tar.zst``, in the current folder.
        mode: What to do with the lock that is there: ``reuse`` its commits, ``upgrade`` to the newest, or ``insist``
            that it fits, and leave it alone.
        base: Pack only what this lacks: the bundle carried over before, its lock, or its receipt.
        volume_bytes: Write volumes, none longer than this, with ``out`` as their common name.
        codec: ``auto`` stores weights as byte planes; ``zstd`` lets `tar --zstd` alone unpack the bundle.
        level: zstd level, 1 to 22.
        store: Folder for downloads; by default BUNDLE_CACHE, else ``~/.cache/bundle``.
        from_cache: HF cache from which files are taken instead of the network; by default HF_HOME.
        jobs: How many files to download at once.
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.
        token: As in huggingface_hub: None for that of the environment or the login, False for none.
        sandbox: What must hold the Python of a repo while the proof runs it: auto, a kind, or none.
        prove: Commands for a shell that must run on what the bundle holds, besides those of the manifest.
        proof_minutes: How long the proof of one entry, or one command, may take.
        observer: Gets progress and notes.

    Raises:
        ManifestError: The manifest is malformed, or does not fit what the Hub has.
        LockError: The lock is damaged, or does not fit (``insist``).
        HubError: The Hub refused.
        NetworkError: The Hub cannot be reached.
        IntegrityError: The Hub sends other bytes than it published, or than the lock names.
        ProofError: Something does not load without a network, or a command does not run: no bundle was written.
        DependencyError: A package that the proof needs is not installed: nothing was downloaded.
        SandboxError: Nothing here would hold the Python of a repo: nothing was downloaded.
        SpaceError: There is not enough free space.
        UsageError: A folder cannot be written to, `volume_bytes` is too small, volumes should go to a pipe, or the
            delta would be written over its base.
    """
    watcher = observer or Observer()
    planned = plan_bundle(
        manifest_path,
        out,
        mode=mode,
        base=base,
        volume_bytes=volume_bytes,
        store=store,
        from_cache=from_cache,
        endpoint=endpoint,
        token=token,
        prove=prove,
        observer=watcher,
        keep=True,
    )
    choose_confinement(planned.locked.lock, sandbox=sandbox)
    if planned.commands:
        list_program_files(Path.cwd())
    with Ahead(planned.store, codec, level, planned.locked.lock, planned.repos) as ahead:
        fetched = _fetch(planned, jobs, endpoint, token, watcher, ahead)
        with begin_proof(
            fetched.lock,
            planned.store,
            commands=planned.commands,
            insist=mode == "insist",
            sandbox=sandbox,
            minutes=proof_minutes,
            watcher=watcher,
            # What went into a pipe cannot be taken back.
            beside=isinstance(planned.destination, FileDestination | VolumeDestination),
        ) as proving:
            locked = replace(planned.locked, lock=proving.lock, previous=planned.locked.lock)
            return _pack(planned, locked, fetched, proving, mode, codec, level, watcher, ahead)


def _fetch(
    planned: BundlePlan, jobs: int, endpoint: str | None, token: str | bool | None, watcher: Observer, ahead: Ahead
) -> FetchResult:
    """Find what would stop the work later, write the lock, and bring every file into the store."""
    lock, store, destination = planned.locked.lock, planned.store, planned.destination
    check_packages(lock)
    folder = None if isinstance(destination, PipeDestination) else destination.path.absolute().parent
    if folder is not None:
        check_writable(folder)
    store.make()
    # Under `insist` this is the lock that stands there.
    planned.locked.write()
    lock.forget_text()
    store.sweep()
    fetched = fetch(
        lock,
        store,
        jobs=jobs,
        bundle_folder=folder,
        cache=planned.cache,
        endpoint=endpoint,
        token=token,
        observer=watcher,
        on_stored=ahead.add,
    )
    # The proof forks, which is not safe beside threads.
    ahead.finish()
    return fetched


def _pack(
    planned: BundlePlan,
    locked: Locked,
    fetched: FetchResult,
    proving: Proving,
    mode: LockMode,
    codec: CodecChoice,
    level: int,
    watcher: Observer,
    ahead: Ahead,
) -> Made:
    """Scan its pickle files, and pack what is being proven, unless it is there; it has its name after the proof."""
    lock, destination, base = locked.lock, planned.destination, planned.base
    total = sum(repo.size_bytes for repo in lock.repos)
    if base is not None:
        # Of a delta the whole bundle is packed too, for its digest alone.
        total += sum(blob.size_bytes for blob in layout(lock).blobs if blob.sha256 not in base.contents)
    pickles = scan_pickles(lock, planned.store)
    if not can_scan() and (left := list_pickles(lock)):
        watcher.note(f"{counted(len(left), 'pickle file')} not scanned: picklescan is not installed")
    watcher.begin("pack", f"packing {destination.path}", total)

    def show(count: int) -> None:
        watcher.progress(count)
        # Of a hundred gigabytes the rest takes minutes.
        proving.raise_failure()

    def approve() -> None:
        if not proving.is_done():
            watcher.begin("prove", "waiting for the proof that everything loads offline")
        proving.finish()
        if mode != "insist":
            locked.write()

    packed = pack_once(
        lock,
        planned.store,
        destination,
        base=base,
        codec=codec,
        level=level,
        ready=ahead,
        progress=show,
        approve=approve,
    )
    shown = proving.finish()
    return Made(
        locked=locked,
        fetched=fetched,
        proof=shown.proof,
        commands=shown.commands,
        pickles=pickles,
        packed=packed,
        volumes=tuple(destination.volumes) if isinstance(destination, VolumeDestination) else (),
        replaced=None if packed.was_there else planned.replaced,
        base=base,
    )
