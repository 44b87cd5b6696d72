"""The lock: what a manifest resolved to, as a value with one canonical text form.

A lock pins every entry to a commit and lists its files with sizes and digests. `bundle lock` writes it with what
the Hub publishes; `bundle fetch` completes it with our own SHA-256 and BLAKE3 of each file. A complete lock
decides every byte of the bundle and every name in the installed cache.

Rule book:

* the text form is JSON with one file per line, keys and lists in a fixed order: equal locks give equal bytes;
* `Lock.loads` trusts nothing: every path, digest and number is checked, and one error names all faults;
* unknown keys and unknown versions are refused: to ignore them would be to guess what they mean.

Nothing here reads a file or uses a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

from bundler.errors import LockError
from bundler.files.digest import sha256_bytes
from bundler.plan.lock_rules import (
    SORTED,
    THERE,
    Blake3,
    BundleName,
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
from bundler.plan.names import RepoKind, RepoType
from bundler.text import strict_json
from bundler.text.canonical_json import list_lines, spell_object, spell_value
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.reader import Reader
from bundler.text.rules import Key, key
from bundler.text.strict_json import StrictJsonError
from bundler.text.trees import JsonTree

LOCK_VERSION = 1

# The longest lock that is read into memory; real ones, with a line per file, are far shorter.
MAX_CHARACTERS = 1 << 28
# From this length on a lock is mostly digests.
_ROOMY = 1 << 20
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
        configs: Dataset configurations to prepare, sorted; empty for all, or for none where there are `data_files` or
            `data_dirs`.
        data_files: Further choices of a dataset's files to prepare, each as JSON, sorted.
        data_dirs: Folders of a dataset to prepare, sorted.
        partial: Whether files of a dataset were left out by patterns.
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
    configs: tuple[ConfigName, ...] = key((), SORTED)
    data_files: tuple[DataFiles, ...] = key((), Key(check=order_problem))
    data_dirs: tuple[DataDir, ...] = key((), Key(check=order_problem))
    partial: bool = False
    card: Card | None = key(None, Key())
    endpoint: Endpoint | None = key(None, Key())
    files: tuple[LockedFile, ...] = key(about=_SORTED_BY_PATH)
    absent: tuple[FilePath, ...] = key((), SORTED)
    prepared: tuple[PreparedFile, ...] = key((), _SORTED_BY_PATH)

    @property
    def repo_type(self) -> RepoType:
        """The Hub's type of the repo: a tokenizer is in a model repo."""
        return "dataset" if self.kind == "dataset" else "model"

    @property
    def size_bytes(self) -> int:
        """Sum of the selected files' sizes."""
        return sum(file.size_bytes for file in self.files)

    @property
    def has_only_code(self) -> bool:
        """Whether it has only Python code, which other repos use."""
        suffixes = {PurePosixPath(file.path).suffix for file in self.files}
        return self.trust_remote_code and ".py" in suffixes and suffixes <= {".py", ".md", "", ".txt"}


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Everything a manifest resolved to.

    Attributes:
        name: The bundle's name.
        manifest_sha256: `Manifest.digest()` of the manifest this was resolved from.
        repos: One per manifest entry, in manifest order; then those whose Python the others name.
    """

    name: str
    manifest_sha256: str
    repos: tuple[LockedRepo, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every file has our own digests, so that a bundle can be packed from the lock."""
        return all(file.sha256 and file.blake3 for repo in self.repos for file in repo.files)

    @property
    def digest(self) -> str:
        """``sha256:`` and the SHA-256 of the canonical text."""
        return f"sha256:{sha256_bytes(self.dumps().encode())}"

    def with_repos(self, repos: tuple[LockedRepo, ...]) -> Lock:
        """Return a copy with other repos."""
        return replace(self, repos=repos)

    def dumps(self) -> str:
        """Return the canonical text: JSON, one file per line, ending in a newline."""
        lines = ["{"]
        lines.append(f' "lock_version": {LOCK_VERSION},')
        lines.append(f' "name": {spell_value(self.name)},')
        lines.append(f' "manifest_sha256": {spell_value(self.manifest_sha256)},')
        lines.append(' "repos": [')
        for index, repo in enumerate(self.repos):
            lines.extend(_repo_lines(repo, last=index == len(self.repos) - 1))
        lines.extend([" ]", "}", ""])
        return "\n".join(lines)

    @classmethod
    def loads(cls, text: str, *, source: str = "lock") -> Lock:
        """Parse and validate the text form.

        Args:
            text: What `dumps` returned, perhaps edited.
            source: The file's name for error messages.

        Raises:
            LockError: The text has another lock version.
            InvalidLockError: It is not JSON, or malformed; the error names every fault with its key path.
        """
        if len(text) > MAX_CHARACTERS:
            raise InvalidLockError(
                source, [Fault("", None, f"longer than {MAX_CHARACTERS} bytes; this is not a lock")]
            )
        if _is_crowded(text):
            what = "values shorter than those of any lock, by the thousand; this is not a lock"
            raise InvalidLockError(source, [Fault("", None, f"has {what}")])
        try:
            root = strict_json.read(text)
        except StrictJsonError as error:
            raise InvalidLockError(source, [Fault("", None, f"expected a lock in JSON: {error}")]) from error
        reader = Reader(JsonTree())
        if found := reader.other_version(root, "lock_version", LOCK_VERSION):
            raise LockError(
                f"{source}: lock_version: expected {LOCK_VERSION}, found {found}",
                hint="a newer `bundle` wrote it: upgrade this one, or write the lock again with `bundle lock`",
            )
        read = reader.read(LockFile, root)
        if read is None or reader.faults:
            raise InvalidLockError(source, reader.faults)
        return cls(name=read.name, manifest_sha256=read.manifest_sha256, repos=read.repos)


def _is_crowded(text: str) -> bool:
    """Tell whether a long text has far more values than a lock would, each of which takes memory, however short."""
    brackets = text.count("{") + text.count("[")
    return len(text) > _ROOMY and (text.count(",") > len(text) // 16 or brackets > len(text) // 32)


class InvalidLockError(InvalidFileError, LockError):
    """A lock is malformed; holds all faults."""

    next_step = "write it again with `bundle lock`"


@dataclass(frozen=True, kw_only=True)
class LockFile:
    """The keys of a lock file: those of a `Lock`, and its version."""

    lock_version: Literal[1] = key(about=Key(expected="the number 1"))
    name: BundleName
    manifest_sha256: Sha256
    repos: tuple[LockedRepo, ...]

    def conflicts(self) -> Iterable[tuple[str, str]]:
        """Return (key, fault) for each fault between keys that are right by themselves."""
        total = sum(repo.size_bytes + sum(file.size_bytes for file in repo.prepared) for repo in self.repos)
        if total > MAX_SIZE_BYTES:
            return [("repos", f"the sizes of all files add up to more than {MAX_SIZE_BYTES:,} bytes")]
        return ()


def _repo_lines(repo: LockedRepo, *, last: bool) -> Iterator[str]:
    yield "  {"
    yield f'   "kind": {spell_value(repo.kind)},'
    yield f'   "repo_id": {spell_value(repo.repo_id)},'
    yield f'   "revision": {spell_value(repo.revision)},'
    yield f'   "commit": {spell_value(repo.commit)},'
    # Only if they are used, here and below, so that all other locks have the same text as before these keys were added.
    if repo.refs:
        yield f'   "refs": {spell_value(list(repo.refs))},'
    yield f'   "aliases": {spell_value(list(repo.aliases))},'
    yield f'   "trust_remote_code": {spell_value(repo.trust_remote_code)},'
    yield f'   "allow_pickle": {spell_value(repo.allow_pickle)},'
    yield f'   "configs": {spell_value(list(repo.configs))},'
    if repo.data_files:
        yield f'   "data_files": {spell_value(list(repo.data_files))},'
    if repo.data_dirs:
        yield f'   "data_dirs": {spell_value(list(repo.data_dirs))},'
    if repo.partial:
        yield '   "partial": true,'
    if repo.card is not None:
        claims = {name: list(claimed) for name, claimed in asdict(repo.card).items()}
        yield f'   "card": {spell_object(claims)},'
    if repo.endpoint is not None:
        yield f'   "endpoint": {spell_value(repo.endpoint)},'
    yield from list_lines(
        "files",
        [
            spell_object(
                {
                    "path": f.path,
                    "size": f.size_bytes,
                    "blob_id": f.blob_id,
                    "lfs_sha256": f.lfs_sha256,
                    "sha256": f.sha256,
                    "blake3": f.blake3,
                }
            )
            for f in repo.files
        ],
        last=False,
    )
    yield from list_lines("absent", [spell_value(name) for name in repo.absent], last=False)
    yield from list_lines(
        "prepared",
        [
            spell_object({"path": p.path, "size": p.size_bytes, "sha256": p.sha256, "blake3": p.blake3})
            for p in repo.prepared
        ],
        last=True,
    )
    yield "  }" if last else "  },"
