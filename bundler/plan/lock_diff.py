"""What differs between two locks: repos, commits, files and bytes.

A pure function of both. Contents are compared by the digests that the locks have: SHA-256 where both know it, else what
the Hub publishes. Licences are compared where both locks record what the cards claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Literal

from bundler.plan.lock import Lock, LockedFile, LockedRepo, PreparedFile

_File = LockedFile | PreparedFile
# What a repo is asked for beside its commit; a change of it may leave every file as it is.
_NO_SETTINGS = ("kind", "repo_id", "revision", "commit", "card", "files", "prepared")
_SETTINGS = tuple(field.name for field in fields(LockedRepo) if field.name not in _NO_SETTINGS)


@dataclass(frozen=True, kw_only=True)
class FileDiff:
    """A file that is not the same on both sides.

    Attributes:
        path: Its path in the repo; of a prepared file below the folder of its dataset.
        status: What became of it.
        is_prepared: Whether it is of a dataset in its prepared form.
        before_bytes: Its length in the first lock; None if it is not there.
        after_bytes: Its length in the second lock; None if it is not there.
    """

    path: str
    status: Literal["added", "removed", "changed"]
    is_prepared: bool
    before_bytes: int | None
    after_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class RepoDiff:
    """What became of one entry.

    Attributes:
        kind: tokenizer, model or dataset.
        repo_id: Canonical id.
        revision: What the manifest asks for.
        status: `unchanged` means the same commit, files and settings.
        before_commit: In the first lock; None if the entry is not there.
        after_commit: In the second lock; None if the entry is not there.
        settings: Names of other keys of the entry that differ, such as `aliases`.
        before_licenses: What the card claims in the first lock; None where that does not record it.
        after_licenses: The same in the second lock.
        files: What differs, by path.
    """

    kind: str
    repo_id: str
    revision: str
    status: Literal["added", "removed", "changed", "unchanged"]
    before_commit: str | None
    after_commit: str | None
    settings: tuple[str, ...]
    before_licenses: tuple[str, ...] | None
    after_licenses: tuple[str, ...] | None
    files: tuple[FileDiff, ...]


@dataclass(frozen=True, kw_only=True)
class LockDiff:
    """All that differs.

    Attributes:
        repos: Entries of the second lock in its order, then those that only the first has.
        new_files: Contents that only the second has: what a delta carries.
        new_bytes: Their sizes together.
        gone_files: Contents that only the first has.
        gone_bytes: Their sizes together.
        shared_files: Contents that both have.
        shared_bytes: Their sizes together.
    """

    repos: tuple[RepoDiff, ...]
    new_files: int
    new_bytes: int
    gone_files: int
    gone_bytes: int
    shared_files: int
    shared_bytes: int

    @property
    def is_empty(self) -> bool:
        """Whether both say the same of every repo."""
        return all(repo.status == "unchanged" for repo in self.repos)


def compare_locks(before: Lock, after: Lock) -> LockDiff:
    """Compare two locks entry by entry, and their contents; names and manifests of the locks are not compared."""
    old = {_key(repo): repo for repo in before.repos}
    repos = [_compare(old.pop(_key(repo), None), repo) for repo in after.repos]
    repos += [_compare(repo, None) for repo in old.values()]
    new, shared = _divide(after, before)
    gone, _ = _divide(before, after)
    return LockDiff(
        repos=tuple(repos),
        new_files=len(new),
        new_bytes=sum(new.values()),
        gone_files=len(gone),
        gone_bytes=sum(gone.values()),
        shared_files=len(shared),
        shared_bytes=sum(shared.values()),
    )


def _key(repo: LockedRepo) -> tuple[str, str, str]:
    return repo.kind, repo.repo_id, repo.revision


def _compare(before: LockedRepo | None, after: LockedRepo | None) -> RepoDiff:
    one = before or after
    assert one is not None, "an entry is in one of the two"
    files = [
        *_compare_files(before.files if before else (), after.files if after else (), is_prepared=False),
        *_compare_files(before.prepared if before else (), after.prepared if after else (), is_prepared=True),
    ]
    settings: tuple[str, ...] = ()
    status: Literal["added", "removed", "changed", "unchanged"] = "added" if before is None else "removed"
    if before is not None and after is not None:
        settings = tuple(name for name in _SETTINGS if getattr(before, name) != getattr(after, name))
        if None not in (licenses := [_licenses(before), _licenses(after)]) and licenses[0] != licenses[1]:
            settings = (*settings, "licenses")
        is_same = before.commit == after.commit and not files and not settings
        status = "unchanged" if is_same else "changed"
    return RepoDiff(
        kind=one.kind,
        repo_id=one.repo_id,
        revision=one.revision,
        status=status,
        before_commit=before.commit if before else None,
        after_commit=after.commit if after else None,
        settings=settings,
        before_licenses=_licenses(before),
        after_licenses=_licenses(after),
        files=tuple(files),
    )


def _licenses(repo: LockedRepo | None) -> tuple[str, ...] | None:
    return None if repo is None or repo.card is None else repo.card.licenses


def _compare_files(before: Iterable[_File], after: Iterable[_File], *, is_prepared: bool) -> list[FileDiff]:
    old, new = {file.path: file for file in before}, {file.path: file for file in after}
    found = []
    for path in sorted({*old, *new}):
        one, other = old.get(path), new.get(path)
        if one is not None and other is not None and not _digests(one).isdisjoint(_digests(other)):
            continue
        status: Literal["added", "removed", "changed"] = "changed"
        if one is None or other is None:
            status = "added" if one is None else "removed"
        found.append(
            FileDiff(
                path=path,
                status=status,
                is_prepared=is_prepared,
                before_bytes=one.size_bytes if one else None,
                after_bytes=other.size_bytes if other else None,
            )
        )
    return found


def _digests(file: _File) -> set[str]:
    """Return all digests of a file's content that are known; git's says nothing of an LFS file but its pointer's."""
    if isinstance(file, PreparedFile):
        return {file.sha256}
    names = {file.sha256, file.lfs_sha256, None if file.lfs_sha256 else file.blob_id}
    return {name for name in names if name is not None}


def _divide(of: Lock, by: Lock) -> tuple[dict[str, int], dict[str, int]]:
    """Return the contents of one lock, as digest -> bytes, that another lacks, and those that it has."""
    known = {digest for file in _list_files(by) for digest in _digests(file)}
    lacking: dict[str, int] = {}
    there: dict[str, int] = {}
    for file in _list_files(of):
        name = file.sha256 or (file.etag if isinstance(file, LockedFile) else "")
        (lacking if known.isdisjoint(_digests(file)) else there)[name] = file.size_bytes
    return lacking, there


def _list_files(lock: Lock) -> Iterator[_File]:
    for repo in lock.repos:
        yield from repo.files
        yield from repo.prepared
