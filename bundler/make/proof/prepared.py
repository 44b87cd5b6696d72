"""Prepared datasets: made once from the fetched files, kept in the store, listed in the lock.

The work is done by `bundler.make.proof.dataset` in a child process. Here: which datasets need it, what an earlier
run made of the same files with the same versions of the libraries, and under which names the results must be
shipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bundler.errors import IntegrityError
from bundler.files.digest import hash_file
from bundler.make.proof.children import run_child
from bundler.make.proof.findings import refuse_failures
from bundler.make.store import Store, StoredBlob
from bundler.offline.kernel.isolation import Requested
from bundler.plan.layout import prepared_folder
from bundler.plan.lock import Lock, LockedRepo, PreparedFile


def prepare(lock: Lock, store: Store, *, insist: bool = False, isolate: Requested = "auto") -> Lock:
    """Return the lock with the prepared files of its datasets, all of them in the store.

    What an earlier run prepared from the same files with the same library versions is used again.

    Args:
        lock: A complete lock whose files are in `store`.
        store: Takes the prepared files.
        insist: Refuse to make other prepared files than the lock lists already.
        isolate: As `bundle run` takes it.

    Raises:
        ProofError: A dataset cannot be prepared.
        IntegrityError: Other prepared files came out than the lock lists, and `insist` is set.
        DependencyError: The datasets library is missing, or a package that a dataset needs.
    """
    repos = list(lock.repos)
    waiting = []
    for index, repo in enumerate(repos):
        if repo.kind != "dataset" or _are_stored(store, repo.prepared):
            continue
        known = _recall(store, repo)
        if known is None:
            waiting.append(index)
        else:
            repos[index] = _with_prepared(repo, known, insist=insist)
    if waiting:
        bare = lock.with_repos(tuple(replace(repos[index], prepared=()) for index in waiting))
        with store.work_folder() as work:
            home = work / "prepare"
            findings = run_child("prepare", bare, store, work, home, isolate=isolate).findings
            for finding in findings:
                finding.index = waiting[finding.index]
            refuse_failures(lock, findings)
            for finding in findings:
                index = finding.index
                files = _collect_files(store, repos[index], home, finding.prepared)
                store.keep_record("prepared", _key(repos[index]), [vars(file) for file in files])
                repos[index] = _with_prepared(repos[index], files, insist=insist)
    return lock.with_repos(tuple(repos))


def _with_prepared(repo: LockedRepo, files: tuple[PreparedFile, ...], *, insist: bool) -> LockedRepo:
    if insist and repo.prepared and repo.prepared != files:
        raise IntegrityError(
            f"{repo.repo_id}: the lock lists prepared files that cannot be made here: expected "
            f"{_summary(repo.prepared)}, found {_summary(files)} (datasets {_version('datasets')}, pyarrow "
            f"{_version('pyarrow')})",
            hint="use the versions that the lock was completed with, or renew it with `bundle fetch --upgrade`",
        )
    return replace(repo, prepared=files)


def _summary(files: Iterable[PreparedFile]) -> str:
    return ", ".join(f"{file.path} sha256 {file.sha256[:12]}" for file in files)


def _are_stored(store: Store, files: tuple[PreparedFile, ...]) -> bool:
    # All are looked at, so that each damaged one is thrown away now.
    damaged = [file for file in files if store.verified(file.sha256) is None]
    return bool(files) and not damaged


def _key(repo: LockedRepo) -> str:
    """Return text that is equal exactly when preparation gives equal files."""
    return json.dumps(
        [
            [repo.repo_id, repo.commit, list(repo.configs), list(repo.data_files), sorted(_alias_stems(repo))],
            [[file.path, file.etag] for file in repo.files],
            [_version("datasets"), _version("pyarrow")],
        ]
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _recall(store: Store, repo: LockedRepo) -> tuple[PreparedFile, ...] | None:
    try:
        files = tuple(PreparedFile(**item) for item in store.record("prepared", _key(repo)) or [])
    except TypeError:
        return None
    return files if _are_stored(store, files) else None


def _collect_files(store: Store, repo: LockedRepo, home: Path, paths: Iterable[str]) -> tuple[PreparedFile, ...]:
    """Move the prepared files into the store, and list each under every name that it is read by."""
    folder = home / "datasets" / prepared_folder(repo.repo_id)
    files = []
    for relative in paths:
        path = folder / relative
        digests = hash_file(path, "sha256", "blake3")
        assert digests.sha256 and digests.blake3
        store.adopt(path, StoredBlob.of(digests.sha256, digests))
        for name in _names(repo, relative):
            files.append(
                PreparedFile(
                    path=name, size_bytes=digests.size_bytes, sha256=digests.sha256, blake3=digests.blake3
                )
            )
    return tuple(sorted(files, key=lambda file: file.path))


def _alias_stems(repo: LockedRepo) -> set[str]:
    """Return the last part of each name, as the datasets library writes it into file names."""
    return {prepared_folder(name).rpartition("___")[2] for name in (repo.repo_id, *repo.aliases)}


def _names(repo: LockedRepo, relative: str) -> list[str]:
    """Return the names of one prepared file: Arrow files begin with the dataset's name, aliases included."""
    folder, _, name = relative.rpartition("/")
    own = prepared_folder(repo.repo_id).rpartition("___")[2]
    if not name.startswith(f"{own}-"):
        return [relative]
    return sorted(f"{folder}/{stem}-{name.removeprefix(f'{own}-')}" for stem in _alias_stems(repo))
