"""Prepare datasets once from the fetched files; keep the result in the store, and list it in the lock.

`bundler.make.proof.dataset` does the work in a child process. This module finds which datasets need it, which have a
result from an earlier run (same files, same versions of the libraries), and under which names results must be shipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bundler.errors import IntegrityError, ProofError
from bundler.files.digest import hash_file
from bundler.files.paths import relative_path_problem
from bundler.make.proof.findings import refuse_failures
from bundler.make.proof.process.children import run_child
from bundler.make.proof.process.confinement import SandboxChoice
from bundler.make.store import Store, StoredBlob
from bundler.offline.kernel.isolation import Requested
from bundler.plan.lock import Lock, LockedRepo, PreparedFile
from bundler.plan.names import prepared_folder


def prepare(
    lock: Lock,
    store: Store,
    *,
    insist: bool = False,
    isolate: Requested = "auto",
    sandbox: SandboxChoice = "auto",
) -> Lock:
    """Return the lock with the prepared files of its datasets; all of these are then in the store.

    Files that an earlier run prepared from the same files with the same library versions are used again.

    Args:
        lock: A complete lock whose files are in `store`.
        store: The store with its files, and for the prepared files.
        insist: Refuse prepared files that differ from those in the lock.
        isolate: The isolation, as for `bundle run`.
        sandbox: As `choose_confinement` takes it.

    Raises:
        ProofError: A dataset cannot be prepared.
        IntegrityError: `insist` is set, and the prepared files differ from those in the lock.
        DependencyError: The datasets library, or a package that a dataset needs, is missing.
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
            repos[index] = _add_prepared(repo, known, insist=insist)
    if waiting:
        bare = lock.with_repos(tuple(replace(repos[index], prepared=()) for index in waiting))
        with store.work_folder() as work:
            home = work / "prepare"
            findings = run_child("prepare", bare, store, work, home, isolate=isolate, sandbox=sandbox).findings
            for finding in findings:
                finding.index = waiting[finding.index]
            refuse_failures(lock, findings)
            for finding in findings:
                index = finding.index
                files = _collect_files(store, repos[index], home, finding.prepared)
                store.keep_record("prepared", _make_key(repos[index]), [vars(file) for file in files])
                repos[index] = _add_prepared(repos[index], files, insist=insist)
    return lock.with_repos(tuple(repos))


def _add_prepared(repo: LockedRepo, files: tuple[PreparedFile, ...], *, insist: bool) -> LockedRepo:
    if insist and repo.prepared and repo.prepared != files:
        raise IntegrityError(
            f"{repo.repo_id}: the prepared files differ from those in the lock: expected "
            f"{_summary(repo.prepared)}, found {_summary(files)} (datasets {_version('datasets')}, pyarrow "
            f"{_version('pyarrow')})",
            hint="use the versions that the lock was completed with, or renew it with `bundle fetch --upgrade`",
        )
    return replace(repo, prepared=files)


def _summary(files: Iterable[PreparedFile]) -> str:
    return ", ".join(f"{file.path} sha256 {file.sha256[:12]}" for file in files)


def _are_stored(store: Store, files: tuple[PreparedFile, ...]) -> bool:
    # Check all of them: `find_verified` drops the record of each damaged one.
    damaged = [file for file in files if store.find_verified(file.sha256) is None]
    return bool(files) and not damaged


def _make_key(repo: LockedRepo) -> str:
    """Return a text that is equal exactly when preparing gives equal files."""
    return json.dumps(
        [
            [
                repo.repo_id,
                repo.commit,
                list(repo.configs),
                list(repo.data_files),
                # Only if there are some, so that what older versions prepared is used again.
                *([list(repo.data_dirs)] if repo.data_dirs else []),
                sorted(_list_alias_stems(repo)),
            ],
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
        files = tuple(PreparedFile(**item) for item in store.record("prepared", _make_key(repo)) or [])
    except TypeError:
        return None
    return files if _are_stored(store, files) else None


def _collect_files(store: Store, repo: LockedRepo, home: Path, paths: Iterable[str]) -> tuple[PreparedFile, ...]:
    """Move the prepared files into the store, and list each under every name that it is read by."""
    folder = home / "datasets" / prepared_folder(repo.repo_id)
    files = []
    for relative in paths:
        path = folder / relative
        if relative_path_problem(relative) or os.path.realpath(path) != f"{os.path.realpath(folder)}/{relative}":
            raise ProofError(
                f"{repo.repo_id}: the process that should prepare names {relative!r}, outside its folder"
            )
        digests = hash_file(path, "sha256", "blake3")
        assert digests.sha256 and digests.blake3
        store.adopt(path, StoredBlob.of(digests.sha256, digests))
        for name in _list_names(repo, relative):
            files.append(
                PreparedFile(
                    path=name, size_bytes=digests.size_bytes, sha256=digests.sha256, blake3=digests.blake3
                )
            )
    return tuple(sorted(files, key=lambda file: file.path))


def _list_alias_stems(repo: LockedRepo) -> set[str]:
    """Return the last part of each name, in the form that the datasets library uses in file names."""
    return {prepared_folder(name).rpartition("___")[2] for name in (repo.repo_id, *repo.aliases)}


def _list_names(repo: LockedRepo, relative: str) -> list[str]:
    """Return the names of a prepared file, one per alias: the name of an Arrow file begins with that of the dataset."""
    folder, _, name = relative.rpartition("/")
    own = prepared_folder(repo.repo_id).rpartition("___")[2]
    if not name.startswith(f"{own}-"):
        return [relative]
    return sorted(f"{folder}/{stem}-{name.removeprefix(f'{own}-')}" for stem in _list_alias_stems(repo))
