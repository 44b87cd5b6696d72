"""Repos straight from a bundle file, without installing it.

Rule book:

* ids, commits, refs, sizes and etags are those of the lock inside, so that clients see the Hub it was fetched from;
* the bytes of a file are those of a blob that the lock names, each chunk checked before it is decoded; damage ends
  the one download that meets it, and is named in the log;
* an alias is a renamed repo, as on the Hub.
"""

from __future__ import annotations

from types import MappingProxyType

from bundler.errors import BundleError, FormatError
from bundler.format.reader import BundleReader
from bundler.plan.layout import SnapshotFile
from bundler.plan.names import HUB_TYPES
from bundler.remote.address import Place
from bundler.serve.source import (
    ContentChangedError,
    Refs,
    RepoKey,
    RepoNotServedError,
    RevisionNotServedError,
    ServedFile,
    Snapshot,
)
from bundler.serve.sources.chunks import SharedChunks


class BundleSource:
    """Serves a bundle; the file stays open as long as the source lives.

    Args:
        path: The bundle file, or its address.

    Raises:
        FormatError: It is no bundle, a delta, or damaged.
    """

    def __init__(self, path: Place) -> None:
        self._reader = BundleReader(path)
        if self._reader.omitted is not None:
            raise FormatError(
                f"{path}: is a delta, and lacks what its base has", hint="install both, and serve that HF_HOME"
            )
        self._chunks = SharedChunks(self._reader, self._reader.pooled_bytes)
        self._repos = {
            RepoKey(repo.repo_type, repo.repo_id): repo
            for repo in self._reader.plan.layout.repos
            if repo.repo_type in HUB_TYPES
        }
        self._aliases = {RepoKey(key.repo_type, a): key for key, repo in self._repos.items() for a in repo.aliases}
        self._files: dict[tuple[RepoKey, str], dict[str, SnapshotFile]] = {}
        for key, repo in self._repos.items():
            for file in repo.snapshots:
                commit = file.path.removeprefix(f"{repo.folder}/snapshots/").split("/", 1)[0]
                self._files.setdefault((key, commit), {})[file.repo_path] = file

    def repos(self) -> list[RepoKey]:
        """Return every repo of the bundle, sorted (see `Source`)."""
        return sorted(self._repos)

    def canonical(self, key: RepoKey) -> RepoKey:
        """Return the repo that an id or alias stands for (see `Source`)."""
        found = key if key in self._repos else self._aliases.get(key)
        if found is None:
            raise RepoNotServedError(f"no {key.repo_type} {key.repo_id!r} in bundle {self._reader.name}")
        return found

    def tokens(self, key: RepoKey) -> frozenset[str] | None:
        """Return None: whoever has the bundle has the files."""

    def refs(self, key: RepoKey) -> Refs:
        """Return the revisions that the manifest named as branches; a lock does not tell tags from branches."""
        return Refs(branches=self._repos[key].refs)

    def snapshot(self, key: RepoKey, revision: str) -> Snapshot:
        """Return the shipped files of a commit (see `Source`)."""
        repo = self._repos[key]
        commit = repo.refs.get(revision, revision)
        if commit not in repo.trees:
            raise RevisionNotServedError(f"{key} has no revision {revision!r} in bundle {self._reader.name}")
        files = {
            file.path: ServedFile(
                path=file.path, size_bytes=file.size_bytes, blob_id=file.blob_id, lfs_sha256=file.lfs_sha256
            )
            for file in repo.trees[commit]
        }
        return Snapshot(commit=commit, files=MappingProxyType(files))

    def open(self, key: RepoKey, snapshot: Snapshot, path: str) -> BundleContent:
        """Open a file of a snapshot (see `Source`)."""
        snapshot.file(path)
        member = self._reader.member_of(self._files[key, snapshot.commit][path].blob)
        return BundleContent(self._chunks, member.offset, member.size_bytes)


class BundleContent:
    """The bytes of one blob of a bundle; safe to read from several threads.

    Args:
        chunks: Where the bundle is read.
        start: Offset of the blob in the tar stream.
        size_bytes: Its length.
    """

    def __init__(self, chunks: SharedChunks, start: int, size_bytes: int) -> None:
        self._chunks = chunks
        self._start = start
        self._size_bytes = size_bytes
        # One download is at most as much work as a pass through the bundle.
        self._work = chunks.new_work()

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from `offset`; fewer only when the blob ends there.

        Raises:
            ContentChangedError: The bundle is damaged there.
        """
        size_bytes = min(size_bytes, self._size_bytes - offset)
        if size_bytes <= 0:
            return b""
        try:
            return self._chunks.read(self._start + offset, size_bytes, self._work)
        except BundleError as error:
            raise ContentChangedError(error.message, hint=error.hint) from error

    def read_into(self, room: memoryview, offset: int, *, may_wait: bool) -> int | None:
        """Fill `room` from one chunk (see `DirectContent`)."""
        room = room[: self._size_bytes - offset] if offset < self._size_bytes else room[:0]
        if not room:
            return 0
        try:
            return self._chunks.read_into(room, self._start + offset, self._work, may_decode=may_wait)
        except BundleError as error:
            raise ContentChangedError(error.message, hint=error.hint) from error

    def close(self) -> None:
        """Do nothing: the bundle stays open for others."""
