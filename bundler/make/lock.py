"""Resolve a manifest to the lock beside it: the work of `bundle lock`, and the first step of `bundle fetch`.

Rule book:

* a lock that was made from exactly this manifest is used as it is, and the Hub is not asked;
* otherwise the commits that it pins are kept, and only new entries are resolved; `upgrade` takes new commits for all;
* `insist` does not ask the Hub and changes nothing; it is an error if the lock does not fit;
* a damaged lock is replaced only with `upgrade`, because the commits that it pins are lost.

`bundler.hub.selection.resolve` decides what entries resolve to, `bundler.plan.lockfile` whether a lock fits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundler.errors import LockError, UsageError
from bundler.files.atomic import atomic_write
from bundler.hub.connection.endpoint import check_endpoint
from bundler.make.observer import Observer
from bundler.make.store import Store
from bundler.plan.lock import Lock, LockedRepo
from bundler.plan.lockfile import is_current, list_differences, lock_path, read_lock
from bundler.plan.manifest import Manifest

# What to do with an existing lock: keep its commits, take the newest ones, or require that it fits.
LockMode = Literal["reuse", "upgrade", "insist"]


class LockMismatchError(LockError):
    """A lock does not fit its manifest.

    Attributes:
        differences: One text per difference.
    """

    def __init__(self, path: Path, manifest_path: Path, found: list[str]) -> None:
        self.differences = tuple(found)
        listing = "".join(f"\n  {difference}" for difference in found)
        super().__init__(
            f"{path} does not fit {manifest_path}{listing}", hint=f"write it with: bundle lock {manifest_path}"
        )


@dataclass(frozen=True, kw_only=True)
class RepoChange:
    """How one entry of a lock changed.

    Attributes:
        kind: tokenizer, model or dataset.
        repo_id: Canonical id.
        revision: What the manifest asks for.
        status: How the entry differs from the previous lock.
        commit: Its commit now; None for a removed entry.
        previous_commit: Its commit before; None for an added entry.
        files: Number of files it has now.
        size_bytes: Sum of their sizes.
    """

    kind: str
    repo_id: str
    revision: str
    status: Literal["added", "updated", "unchanged", "removed"]
    commit: str | None
    previous_commit: str | None
    files: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Locked:
    """What a manifest resolved to.

    Attributes:
        path: Path of the lock, which may not exist yet.
        lock: The lock that fits the manifest.
        previous: The lock that is at `path` now; None if there is none, or it is damaged.
        warnings: What was left out and may be needed, and that a damaged lock is replaced; for people.
    """

    path: Path
    lock: Lock
    previous: Lock | None
    warnings: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether `lock` differs from the lock at `path`."""
        return self.lock != self.previous

    def write(self) -> None:
        """Write the lock to `path`, if it is new."""
        if self.is_new:
            atomic_write(self.path, self.lock.encoded)

    def changes(self) -> tuple[RepoChange, ...]:
        """Compare both locks: the entries of `lock` in its order, then the removed ones."""
        old = {_key(repo): repo for repo in (self.previous.repos if self.previous else ())}
        now = [_compare_entry(repo, old.pop(_key(repo), None)) for repo in self.lock.repos]
        return (*now, *(_describe_removal(repo) for repo in old.values()))


def lock_manifest(
    manifest_path: Path,
    *,
    path: Path | None = None,
    mode: LockMode = "reuse",
    endpoint: str | None = None,
    token: str | bool | None = None,
    observer: Observer | None = None,
    store: Store | None = None,
) -> Locked:
    """Resolve every entry of a manifest to a commit and its files; nothing is written before `Locked.write`.

    Args:
        manifest_path: The manifest.
        path: The lock; by default beside the manifest, with the suffix ``.lock``.
        mode: What to do with an existing lock: ``reuse`` its commits, ``upgrade`` to the newest, or ``insist``, which
            is an error if the lock does not fit.
        endpoint: The Hub's address; None for HF_ENDPOINT or huggingface.co.
        token: As in huggingface_hub: None for that of the environment or the login, False for none.
        observer: Gets warnings, and notes about waiting.
        store: Keeps files of other hosts, which are taken to find out what they are; without, they are taken again
            when they are fetched.

    Raises:
        ManifestError: The manifest is malformed, or does not fit what the Hub has.
        LockError: The existing lock is damaged.
        LockMismatchError: With `insist`: the lock does not fit or does not exist.
        HubError: A repo or revision does not exist, or is refused.
        NetworkError: The Hub cannot be reached.
        UsageError: `path` is the manifest.
    """
    manifest, path = _open(manifest_path, path)
    if mode == "insist":
        lock = _read_fitting(manifest, manifest_path, path)
        return Locked(path=path, lock=lock, previous=lock)
    previous, lost = _read_previous(path, mode)
    if mode == "reuse" and previous is not None and is_current(previous, manifest):
        return Locked(path=path, lock=previous, previous=previous)
    check_endpoint()
    # Imported here because the client reads HF_ENDPOINT when it is imported, and is not needed if the lock fits.
    from bundler.hub.connection.client import HubClient
    from bundler.hub.selection.resolve import resolve

    watcher = observer or Observer()
    client = HubClient(endpoint=endpoint, token=token, on_note=watcher.note)
    resolution = resolve(manifest, client, previous=previous, upgrade=mode == "upgrade")
    for note in resolution.notes:
        watcher.note(note)
    warnings = (*lost, *resolution.warnings)
    for warning in warnings:
        watcher.warn(warning)
    lock = add_files(resolution.lock, manifest, previous, mode, watcher, store)
    return Locked(path=path, lock=lock, previous=previous, warnings=warnings)


def add_files(
    lock: Lock, manifest: Manifest, previous: Lock | None, mode: LockMode, watcher: Observer, store: Store | None
) -> Lock:
    """Return the lock with the manifest's files of other hosts."""
    if not manifest.files:
        return lock
    from bundler.hub.web.resolve import resolve_files
    from bundler.make.web.files import make_keeper

    if store is not None:
        store.make()
    files = resolve_files(
        manifest.files,
        previous=previous,
        upgrade=mode == "upgrade",
        keeper=None if store is None else make_keeper(store),
        on_note=watcher.note,
    )
    return lock.with_repos((*lock.repos, *files))


def check_lock(manifest_path: Path, *, path: Path | None = None) -> Path:
    """Make sure that a lock fits its manifest, without a network.

    Args:
        manifest_path: The manifest.
        path: The lock; by default beside the manifest.

    Returns:
        Path of the lock.

    Raises:
        ManifestError: The manifest is malformed.
        LockError: The lock is damaged.
        LockMismatchError: The lock does not fit, or does not exist.
        UsageError: `path` is the manifest.
    """
    manifest, path = _open(manifest_path, path)
    _read_fitting(manifest, manifest_path, path)
    return path


def _open(manifest_path: Path, path: Path | None) -> tuple[Manifest, Path]:
    manifest = Manifest.load(manifest_path)
    path = path or lock_path(manifest_path)
    # Not Path.resolve: it raises RuntimeError for a link that leads to itself.
    if os.path.realpath(path) == os.path.realpath(manifest_path):
        raise UsageError(
            f"the lock would be written over the manifest {manifest_path}", hint="give it another name with -o"
        )
    return manifest, path


def _read_fitting(manifest: Manifest, manifest_path: Path, path: Path) -> Lock:
    lock = read_lock(path)
    found = ["there is no lock yet"] if lock is None else list_differences(lock, manifest)
    if lock is None or found:
        raise LockMismatchError(path, manifest_path, found)
    return lock


def _read_previous(path: Path, mode: LockMode) -> tuple[Lock | None, tuple[str, ...]]:
    """Return the lock that is there, and what is lost with it if it is damaged and may be replaced."""
    try:
        return read_lock(path), ()
    except LockError as error:
        if mode == "upgrade":
            return None, (f"{path} is damaged and is replaced: which commits it pinned cannot be told",)
        raise LockError(error.message, hint="bundle lock --upgrade writes it again, with new commits") from error


def _key(repo: LockedRepo) -> tuple[str, str, str]:
    return repo.kind, repo.repo_id, repo.revision


def _compare_entry(repo: LockedRepo, before: LockedRepo | None) -> RepoChange:
    return RepoChange(
        kind=repo.kind,
        repo_id=repo.repo_id,
        revision=repo.revision,
        status="added" if before is None else "unchanged" if before == repo else "updated",
        commit=repo.commit,
        previous_commit=before.commit if before else None,
        files=len(repo.files),
        size_bytes=repo.size_bytes,
    )


def _describe_removal(repo: LockedRepo) -> RepoChange:
    return RepoChange(
        kind=repo.kind,
        repo_id=repo.repo_id,
        revision=repo.revision,
        status="removed",
        commit=None,
        previous_commit=repo.commit,
        files=0,
        size_bytes=0,
    )
