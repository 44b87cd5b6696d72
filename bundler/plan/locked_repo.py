"""What a lock has of each manifest entry: its repo, pinned to a commit, and the files, with sizes and digests.

`bundler.plan.lock` reads and writes the text form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from bundler.plan.file_rules import Into, Url, file_name
from bundler.plan.git_objects import commit_id
from bundler.plan.lock_rules import (
    SORTED,
    THERE,
    Blake3,
    DataDir,
    DataFiles,
    Endpoint,
    FilePath,
    GitSha1,
    RepoId,
    Revision,
    Sha256,
    order_problem,
)
from bundler.plan.manifest_rules import ConfigName
from bundler.plan.names import RepoKind, RepoType, repo_type_of
from bundler.text.rules import Key, key

# The largest size that file systems and tar headers can state.
MAX_SIZE_BYTES = 2**63 - 1


def _path_order_problem(files: tuple[LockedFile, ...] | tuple[PreparedFile, ...]) -> str | None:
    return order_problem(tuple(file.path for file in files))


_SORTED_BY_PATH = Key(required=True, check=_path_order_problem)
_SIZE = Key(name="size")


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedFile:
    """One file of a commit.

    Attributes:
        path: POSIX path in the repo.
        size_bytes: Length of the content.
        blob_id: Git blob SHA-1 that the Hub publishes; for an LFS file that of its pointer.
        lfs_sha256: SHA-256 that the Hub publishes for an LFS or Xet file, else None.
        sha256: Our own SHA-256 of the content, None until fetched.
        blake3: Our own BLAKE3 of the content, None until fetched.
    """

    path: FilePath
    size_bytes: int = key(about=_SIZE, at_least=0, at_most=MAX_SIZE_BYTES)
    blob_id: GitSha1
    lfs_sha256: Sha256 | None = key(None, Key(shape=Sha256))
    sha256: Sha256 | None = key(None, Key(shape=Sha256))
    blake3: Blake3 | None = key(None, Key(shape=Blake3))

    @property
    def etag(self) -> str:
        """The name of the file's blob in the cache: its SHA-256 for an LFS file, its git blob SHA-1 for any other."""
        return self.lfs_sha256 or self.blob_id

    def conflicts(self) -> Iterable[tuple[str, str]]:
        """Return (key, fault) for each fault between keys that are right by themselves."""
        if self.lfs_sha256 and self.sha256 and self.lfs_sha256 != self.sha256:
            return [("sha256", "differs from lfs_sha256, though both are the SHA-256 of the file")]
        return ()


@dataclass(frozen=True, kw_only=True)
class PreparedFile:
    """One file that the `datasets` library made from a dataset, so that the dataset loads by name offline.

    Attributes:
        path: POSIX path below the dataset's own folder in `HF_HOME/datasets`.
        size_bytes: Length of the content.
        sha256: SHA-256 of the content.
        blake3: BLAKE3 of the content.
    """

    path: FilePath
    size_bytes: int = key(about=_SIZE, at_least=0, at_most=MAX_SIZE_BYTES)
    sha256: Sha256
    blake3: Blake3


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the card of a repo, its `README.md`, says of where the content comes from: claims, which nothing checks.

    Attributes:
        licenses: In the card's words, for instance ``apache-2.0``, sorted; ``LicenseRef-NAME`` for one of its own.
        base_models: Repos that it was made from, sorted.
        datasets: Repos that it was trained on, sorted.
    """

    licenses: tuple[str, ...] = key((), SORTED)
    base_models: tuple[str, ...] = key((), SORTED)
    datasets: tuple[str, ...] = key((), SORTED)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a file of another host comes from.

    Attributes:
        url: Its address.
        into: What it is for.
        size_bytes: Length of what the address answers with.
        sha256: SHA-256 of that.
        unpacked: Whether that is a zip file, and the files of the entry are those in it.
    """

    url: Url
    into: Into
    size_bytes: int = key(about=_SIZE, at_least=0, at_most=MAX_SIZE_BYTES)
    sha256: Sha256
    unpacked: bool


@dataclass(frozen=True, kw_only=True)
class LockedRepo:
    """One manifest entry, pinned.

    Attributes:
        kind: The manifest's list that has the entry, in the singular.
        repo_id: Canonical id on the Hub.
        revision: Branch, tag or commit in the manifest.
        commit: The commit that it resolved to.
        refs: Further branches that lead to this commit in the cache, for code that names no revision, sorted.
        aliases: Other names that code loads it by, sorted.
        trust_remote_code: Whether its Python code is shipped and may be run.
        allow_pickle: Whether its pickle weights are shipped.
        base_elsewhere: Whether another bundle brings the base model of an adapter.
        configs: Dataset configurations to prepare, sorted; empty for all, or for none where there are `data_files` or
            `data_dirs`.
        data_files: Further choices of a dataset's files to prepare, each as JSON, sorted.
        data_dirs: Folders of a dataset to prepare, sorted.
        partial: Whether files of a dataset were left out by patterns.
        origin: Of a file of another host, where it comes from; its `repo_id` and commit follow from it.
        card: What its card states; None in a lock of a version that did not read cards.
        endpoint: Address of the Hub that the entry was resolved at, without user, password and query; None in a lock of
            a version that did not note it.
        files: Selected files, sorted by path.
        absent: Optional files that the libraries look for and the commit does not have, sorted.
        prepared: For a dataset, its prepared files, sorted by path; empty until fetched.
    """

    kind: RepoKind
    repo_id: RepoId
    revision: Revision
    commit: GitSha1
    refs: tuple[Revision, ...] = key((), Key(check=order_problem))
    aliases: tuple[RepoId, ...] = key((), SORTED)
    trust_remote_code: bool = key(False, THERE)
    allow_pickle: bool = key(False, THERE)
    base_elsewhere: bool = False
    configs: tuple[ConfigName, ...] = key((), SORTED)
    data_files: tuple[DataFiles, ...] = key((), Key(check=order_problem))
    data_dirs: tuple[DataDir, ...] = key((), Key(check=order_problem))
    partial: bool = False
    origin: Origin | None = key(None, Key())
    card: Card | None = key(None, Key())
    endpoint: Endpoint | None = key(None, Key())
    files: tuple[LockedFile, ...] = key(about=_SORTED_BY_PATH)
    absent: tuple[FilePath, ...] = key((), SORTED)
    prepared: tuple[PreparedFile, ...] = key((), _SORTED_BY_PATH)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield (key, fault) for each fault between keys that are right by themselves."""
        if (self.origin is None) == (self.kind == "file"):
            yield "origin", "a file of another host has one, and nothing else has"
        elif self.origin is not None:
            yield from self._check_origin(self.origin)

    def _check_origin(self, origin: Origin) -> Iterator[tuple[str, str]]:
        if self.repo_id != file_name(origin.url, origin.into):
            yield "repo_id", f"expected {file_name(origin.url, origin.into)} for this address"
        folders = {"torch_hub": "torch/hub/"}
        start = folders.get(origin.into, f"{origin.into}/")
        if any(not file.path.startswith(start) for file in self.files):
            yield "files", f"expected paths below {start} for {origin.into}"
        # What stands in a receipt for names alone has no files.
        if self.files and self.commit != commit_id({file.path: file.blob_id for file in self.files}):
            yield "commit", "is not that of these files"
        if self.aliases or self.refs or self.prepared or self.absent:
            yield "aliases", "a file of another host has one name and nothing else"

    @property
    def repo_type(self) -> RepoType:
        """The Hub's type of the repo: a tokenizer is in a model repo."""
        return repo_type_of(self.kind)

    @property
    def size_bytes(self) -> int:
        """Sum of the selected files' sizes."""
        return sum(file.size_bytes for file in self.files)

    @property
    def has_only_code(self) -> bool:
        """Whether it has only Python code, which other repos use."""
        suffixes = {PurePosixPath(file.path).suffix for file in self.files}
        return self.trust_remote_code and ".py" in suffixes and suffixes <= {".py", ".md", "", ".txt"}
