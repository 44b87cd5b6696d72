"""Pack a trained model into a bundle of its own: read it, prove that it loads without a network, pack.

Nothing is asked of a network, and no lock is written: the bundle has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ProofError, UsageError
from bundler.files.access import check_writable
from bundler.files.digest import sha256_bytes
from bundler.format.codec.codecs import DEFAULT_LEVEL, CodecChoice
from bundler.format.replaced import Replaced, find_replaced
from bundler.format.storage.destinations import VolumeDestination, choose_destination
from bundler.make.delta import Base, check_base_stays
from bundler.make.observer import Observer
from bundler.make.pack_once import Packed, pack_once
from bundler.make.proof.findings import UnloadableError
from bundler.make.proof.process.confinement import SandboxChoice, choose_confinement
from bundler.make.proof.run import Proof, check_packages
from bundler.make.proof.stage import begin_proof
from bundler.make.store import Store
from bundler.make.trained.read import read_trained
from bundler.offline.sandbox.limits import DEFAULT_MINUTES
from bundler.plan.layout import layout
from bundler.plan.lock import Lock
from bundler.plan.names import is_bundle_name, is_repo_id


@dataclass(frozen=True, kw_only=True)
class PackedFolder:
    """A bundle that was made from a folder.

    Attributes:
        lock: The lock inside.
        proof: What was proven to load without a network.
        packed: The bundle.
        volumes: Its files, if it is in volumes; else empty.
        base: Of a delta, what it leaves content out against.
        replaced: What stood in its place; None if nothing did, or the bundle itself.
    """

    lock: Lock
    proof: Proof
    packed: Packed
    volumes: tuple[Path, ...]
    base: Base | None
    replaced: Replaced | None


def pack_folder(
    folder: Path,
    out: Path | None = None,
    *,
    name: str | None = None,
    repo_id: str | None = None,
    base: Path | None = None,
    volume_bytes: int | None = None,
    codec: CodecChoice = "auto",
    level: int = DEFAULT_LEVEL,
    store: Path | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    sandbox: SandboxChoice = "auto",
    proof_minutes: float = DEFAULT_MINUTES,
    observer: Observer | None = None,
) -> PackedFolder:
    """Pack the model, or the checkpoints, of a folder.

    Args:
        folder: See `bundler.make.trained.read.read_trained`.
        out: The bundle; by default ``NAME.tar.zst``, of a delta ``NAME.delta.tar.zst``, in the current folder.
        name: The bundle's name; by default the folder's, in lower case.
        repo_id: The id by which programs load it; by default ``trained/NAME``.
        base: Pack only what this lacks: an older bundle, its lock, or its receipt.
        volume_bytes: Write volumes, none longer than this.
        codec: ``auto`` stores weights as byte planes, and as differences; ``zstd`` lets stock tools unpack all.
        level: zstd level, 1 to 22.
        store: Folder for what is packed; by default BUNDLE_CACHE, else ``~/.cache/bundle``.
        allow_pickle: Whether to take pickle weights where there are no others.
        trust_remote_code: Whether to take Python, for classes that a config names; the proof runs it.
        sandbox: What must hold the proof.
        proof_minutes: How long the proof of one model may take.
        observer: Gets progress and notes.

    Raises:
        UsageError: There is no model, or name, id or destination cannot be.
        SelectionError: A model has no weights that may be taken.
        ProofError: It does not load without a network: no bundle was written.
        DependencyError: A package that the proof needs is not installed.
        SpaceError: There is not enough free space.
    """
    watcher = observer or Observer()
    chosen, wanted = _choose_names(folder, name, repo_id)
    destination = choose_destination(
        out or Path(f"{chosen}{'' if base is None else '.delta'}.tar.zst"), volume_bytes
    )
    check_writable(destination.path.absolute().parent)
    old = None
    if base is not None:
        check_base_stays(base, destination, destination.path)
        old = Base.open(base)
    replaced = find_replaced(destination)
    staging = Store(Store.default_root(store))
    watcher.begin("fetch", f"reading {folder}")
    repos = read_trained(
        folder,
        wanted,
        staging,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        on_note=watcher.note,
    )
    said = "".join(f"{repo.repo_id} {repo.revision} {repo.commit}\n" for repo in repos)
    lock = Lock(name=chosen, manifest_sha256=sha256_bytes(said.encode()), repos=repos)
    check_packages(lock)
    choose_confinement(lock, sandbox=sandbox)
    try:
        with begin_proof(
            lock,
            staging,
            commands=(),
            insist=False,
            sandbox=sandbox,
            minutes=proof_minutes,
            watcher=watcher,
            beside=False,
        ) as proving:
            proven = proving.finish()
    except UnloadableError as error:
        raise _explain(error, folder, lock) from error
    total = sum(blob.size_bytes for blob in layout(proven.lock).blobs)
    watcher.begin("pack", f"packing {destination.path}", total)
    packed = pack_once(
        proven.lock, staging, destination, base=old, codec=codec, level=level, progress=watcher.progress
    )
    return PackedFolder(
        lock=proven.lock,
        proof=proven.proof,
        packed=packed,
        volumes=tuple(destination.volumes) if isinstance(destination, VolumeDestination) else (),
        base=old,
        replaced=None if packed.was_there else replaced,
    )


def _explain(error: UnloadableError, folder: Path, lock: Lock) -> ProofError:
    """Return the error in words for a folder: there is no manifest to change."""
    blocks = []
    for finding in error.findings:
        branch = lock.repos[finding.index].revision
        blocks.append(
            f"{folder if branch == 'main' else folder / branch} does not load offline: {finding.failure}"
        )
        if finding.missing:
            blocks.append(f"  not among the files that were taken: {', '.join(finding.missing)}")
    lacks_code = not any(repo.trust_remote_code for repo in lock.repos) and any(
        "trust_remote_code" in (finding.failure or "") for finding in error.findings
    )
    return ProofError(
        "\n".join(blocks),
        hint="its config names Python of its own, as ours does: --trust-remote-code takes that along, and the proof "
        "runs it"
        if lacks_code
        else "write it again with save_pretrained, or, of a checkpoint that is half written or damaged, wait or "
        "delete it; the notes above name the files that were left out",
    )


def _choose_names(folder: Path, name: str | None, repo_id: str | None) -> tuple[str, str]:
    """Return the name of the bundle and the id of the repo."""
    chosen = name or re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._")
    if not is_bundle_name(chosen):
        raise UsageError(f"{chosen!r} cannot be the name of a bundle", hint="give another one with --name")
    wanted = repo_id or f"trained/{chosen}"
    if not is_repo_id(wanted):
        raise UsageError(f"{wanted!r}: expected namespace/name", hint="give another id with --repo-id")
    return chosen, wanted
