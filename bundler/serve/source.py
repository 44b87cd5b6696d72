"""What a Hub serves: repos, their revisions, and the files of a commit, wherever these come from.

A `RepoSource` answers four questions: which repos are there, what is a revision's commit, which files does that
commit have, and what are their bytes. `bundler.serve.server` asks them on behalf of HTTP clients and knows nothing
of disks; those in `bundler.serve.sources` know nothing of HTTP.

Rule book:

* a path that a client sends is only ever a key into `Snapshot.files`: no source joins it to a folder;
* a commit is immutable: bytes that no longer match the snapshot they were listed in are refused, not served;
* the exceptions here are the Hub's own four refusals, by the names that clients know them by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar, Protocol, runtime_checkable

from bundler.errors import HubError
from bundler.plan.git_objects import tree_ids
from bundler.plan.names import HUB_TYPES, RepoType, address_prefix

DEFAULT_BRANCH = "main"


class RepoNotServedError(HubError):
    """The source has no such repo."""

    code: ClassVar[str] = "RepoNotFound"


class RevisionNotServedError(HubError):
    """The repo has no such branch, tag or commit."""

    code: ClassVar[str] = "RevisionNotFound"


class FileNotServedError(HubError):
    """The commit has no such file or folder."""

    code: ClassVar[str] = "EntryNotFound"


class ContentChangedError(HubError):
    """The bytes on disk are no longer those that the snapshot lists."""


@dataclass(frozen=True, order=True)
class RepoKey:
    """A repo's name, as in the Hub's addresses.

    Attributes:
        repo_type: What kind of repo it is on the Hub.
        repo_id: ``namespace/name``, or ``name`` for the Hub's oldest repos.
    """

    repo_type: RepoType
    repo_id: str

    def __str__(self) -> str:
        return f"{address_prefix(self.repo_type)}{self.repo_id}"

    @classmethod
    def parse(cls, text: str) -> RepoKey:
        """Read what `str` writes: ``org/name`` for a model, ``datasets/org/name`` for a dataset."""
        for repo_type in HUB_TYPES:
            prefix = address_prefix(repo_type)
            if prefix and text.startswith(prefix):
                return cls(repo_type, text.removeprefix(prefix))
        return cls("model", text)


@dataclass(frozen=True, kw_only=True)
class ServedFile:
    """One file of a commit, as the Hub publishes it.

    Attributes:
        path: POSIX path in the repo.
        size_bytes: Length of the content.
        blob_id: Git blob SHA-1; for an LFS file that of its pointer.
        lfs_sha256: SHA-256 of the content of an LFS file, else None.
    """

    path: str
    size_bytes: int
    blob_id: str
    lfs_sha256: str | None = None

    @property
    def etag(self) -> str:
        """What clients compare and name their cached blob by."""
        return self.lfs_sha256 or self.blob_id


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files of one commit.

    Attributes:
        commit: 40 hex digits.
        files: By path, in the order of their paths.
    """

    commit: str
    files: Mapping[str, ServedFile]

    @cached_property
    def folders(self) -> Mapping[str, str]:
        """Git tree ids of the folders by path, in the order of their paths; the root itself is left out."""
        trees = tree_ids({path: file.blob_id for path, file in self.files.items()})
        return MappingProxyType({path: trees[path] for path in sorted(trees) if path})

    def file(self, path: str) -> ServedFile:
        """Return the file at `path`.

        Raises:
            FileNotServedError: The commit has none.
        """
        try:
            return self.files[path]
        except KeyError:
            raise FileNotServedError(f"no file {path!r} in commit {self.commit}") from None


@dataclass(frozen=True, kw_only=True)
class Refs:
    """Names of commits.

    Attributes:
        branches: Commit by branch.
        tags: Commit by tag.
    """

    branches: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)


class Content(Protocol):
    """The bytes of one file, read at random; the opener closes it."""

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from `offset`; fewer only when the content ends there."""

    def close(self) -> None:
        """Let go of what was opened."""


@runtime_checkable
class DirectContent(Content, Protocol):
    """The bytes of a file that can be read into memory of the caller's, and without waiting where they are there."""

    def read_into(self, room: memoryview, offset: int, *, may_wait: bool) -> int | None:
        """Read from `offset` into `room`, and return how many bytes came.

        Args:
            room: What is filled; of its end nothing is promised.
            offset: First byte.
            may_wait: Wait for the disk, or for what is compressed.

        Returns:
            0 where the file ends, or once it was written to; None where this would have to wait.

        Raises:
            ContentChangedError: A bundle is damaged there.
        """


class RepoSource(Protocol):
    """Where a Hub's repos come from. Methods may block and are called from several threads."""

    def repos(self) -> list[RepoKey]:
        """Return every repo, sorted, without the old names of renamed ones."""

    def canonical(self, key: RepoKey) -> RepoKey:
        """Return the present name of a repo; `key` itself unless the repo was renamed.

        Raises:
            RepoNotServedError: There is none by that name.
        """

    def tokens(self, key: RepoKey) -> frozenset[str] | None:
        """Return the access tokens that open a gated repo; None for a repo that is open to all."""

    def refs(self, key: RepoKey) -> Refs:
        """Return branches and tags of a repo, given by its canonical name."""

    def snapshot(self, key: RepoKey, revision: str) -> Snapshot:
        """Return the files of a branch, tag or commit.

        Raises:
            RevisionNotServedError: The repo has none by that name.
        """

    def open(self, key: RepoKey, snapshot: Snapshot, path: str) -> Content:
        """Open a file of a snapshot that this source returned.

        Raises:
            FileNotServedError: The snapshot lists no such file.
            ContentChangedError: It is gone, or differs from what the snapshot says.
        """
