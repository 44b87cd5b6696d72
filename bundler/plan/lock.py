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
from functools import cached_property
from typing import Literal

from bundler.errors import LockError
from bundler.files.digest import sha256_bytes
from bundler.plan.lock_rules import BundleName, Command, Sha256
from bundler.plan.locked_repo import MAX_SIZE_BYTES, Card, LockedFile, LockedRepo, Origin, PreparedFile
from bundler.text import strict_json
from bundler.text.canonical_json import list_lines, spell_object, spell_value
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.pieces import encode_pieces, return_large_blocks
from bundler.text.reader import Reader
from bundler.text.rules import Key, key
from bundler.text.strict_json import StrictJsonError
from bundler.text.trees import JsonTree

__all__ = ["MAX_SIZE_BYTES", "Card", "Lock", "LockedFile", "LockedRepo", "Origin", "PreparedFile"]

# A lock without newer kinds of repos has version 1, and the text that it always had; with these 2, with newer keys 3.
LOCK_VERSION = 3
_FIRST_KINDS = frozenset({"tokenizer", "model", "dataset"})

# The longest lock that is read into memory; real ones, with a line per file, are far shorter.
MAX_CHARACTERS = 1 << 28
# From this length on a lock is mostly digests.
_ROOMY = 1 << 20
# Of tens of thousands of files.
_LARGE_CHARACTERS = 8 << 20
_MANY_FILES = 20_000


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Everything a manifest resolved to.

    Attributes:
        name: The bundle's name.
        manifest_sha256: `Manifest.digest()` of the manifest this was resolved from.
        repos: One per manifest entry, in manifest order; then those whose Python the others name.
        proven_by: Commands of the user's that ran on all of it without a network when it was fetched.
    """

    name: str
    manifest_sha256: str
    repos: tuple[LockedRepo, ...]
    proven_by: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every file has our own digests, so that a bundle can be packed from the lock."""
        return all(file.sha256 and file.blake3 for repo in self.repos for file in repo.files)

    @property
    def version(self) -> int:
        """Version of the text form: the first that has all that this lock has."""
        return _version_of(self.repos, self.proven_by)

    @property
    def digest(self) -> str:
        """``sha256:`` and the SHA-256 of the canonical text."""
        return f"sha256:{sha256_bytes(self.encoded)}"

    def with_repos(self, repos: tuple[LockedRepo, ...]) -> Lock:
        """Return a copy with other repos."""
        return replace(self, repos=repos)

    def dumps(self) -> str:
        """Return the canonical text: JSON, one file per line, ending in a newline."""
        return self.encoded.decode()

    @cached_property
    def encoded(self) -> bytes:
        """The canonical text in UTF-8, spelled once."""
        if sum(len(repo.files) for repo in self.repos) > _MANY_FILES:
            return_large_blocks()
        return encode_pieces(f"{line}\n" for line in self._lines())

    def forget_text(self) -> None:
        """Give the memory of `encoded` back, tens of megabytes of 100,000 files; it is spelled again if asked for."""
        self.__dict__.pop("encoded", None)

    def _lines(self) -> Iterator[str]:
        yield "{"
        yield f' "lock_version": {self.version},'
        yield f' "name": {spell_value(self.name)},'
        yield f' "manifest_sha256": {spell_value(self.manifest_sha256)},'
        if self.proven_by:
            yield f' "proven_by": {spell_value(list(self.proven_by))},'
        yield ' "repos": ['
        for index, repo in enumerate(self.repos):
            yield from _repo_lines(repo, last=index == len(self.repos) - 1)
        yield from (" ]", "}")

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
        if len(text) > _LARGE_CHARACTERS:
            return_large_blocks()
        if _is_crowded(text):
            what = "values shorter than those of any lock, by the thousand; this is not a lock"
            raise InvalidLockError(source, [Fault("", None, f"has {what}")])
        try:
            root = strict_json.read(text)
        except StrictJsonError as error:
            raise InvalidLockError(source, [Fault("", None, f"expected a lock in JSON: {error}")]) from error
        # Of 100,000 files 25 MB, beside what is made of it now.
        del text
        reader = Reader(JsonTree())
        if found := reader.other_version(root, "lock_version", *range(1, LOCK_VERSION + 1)):
            raise LockError(
                f"{source}: lock_version: expected 1 to {LOCK_VERSION}, found {found}",
                hint="a newer `bundle` wrote it: upgrade this one, or write the lock again with `bundle lock`",
            )
        read = reader.read(LockFile, root)
        if read is None or reader.faults:
            raise InvalidLockError(source, reader.faults)
        return cls(
            name=read.name, manifest_sha256=read.manifest_sha256, repos=read.repos, proven_by=read.proven_by
        )


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

    lock_version: Literal[1, 2, 3] = key(about=Key(expected="a number from 1 to 3"))
    name: BundleName
    manifest_sha256: Sha256
    proven_by: tuple[Command, ...] = key((), Key(unique=True))
    repos: tuple[LockedRepo, ...]

    def conflicts(self) -> Iterable[tuple[str, str]]:
        """Return (key, fault) for each fault between keys that are right by themselves."""
        total = sum(repo.size_bytes + sum(file.size_bytes for file in repo.prepared) for repo in self.repos)
        if total > MAX_SIZE_BYTES:
            return [("repos", f"the sizes of all files add up to more than {MAX_SIZE_BYTES:,} bytes")]
        if self.lock_version != (version := _version_of(self.repos, self.proven_by)):
            return [("lock_version", f"expected {version} for what it has, found {self.lock_version}")]
        return ()


def _version_of(repos: Iterable[LockedRepo], proven_by: tuple[str, ...]) -> int:
    repos = tuple(repos)
    if proven_by or any(repo.base_elsewhere for repo in repos):
        return 3
    return 1 if all(repo.kind in _FIRST_KINDS for repo in repos) else 2


def _spell_origin(origin: Origin) -> dict[str, object]:
    return {
        "url": origin.url,
        "into": origin.into,
        "size": origin.size_bytes,
        "sha256": origin.sha256,
        "unpacked": origin.unpacked,
    }


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
    if repo.base_elsewhere:
        yield '   "base_elsewhere": true,'
    yield f'   "configs": {spell_value(list(repo.configs))},'
    if repo.data_files:
        yield f'   "data_files": {spell_value(list(repo.data_files))},'
    if repo.data_dirs:
        yield f'   "data_dirs": {spell_value(list(repo.data_dirs))},'
    if repo.partial:
        yield '   "partial": true,'
    if repo.origin is not None:
        yield f'   "origin": {spell_object(_spell_origin(repo.origin))},'
    if repo.card is not None:
        claims = {name: list(claimed) for name, claimed in asdict(repo.card).items()}
        yield f'   "card": {spell_object(claims)},'
    if repo.endpoint is not None:
        yield f'   "endpoint": {spell_value(repo.endpoint)},'
    files = (
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
    )
    yield from list_lines("files", files, last=False)
    yield from list_lines("absent", [spell_value(name) for name in repo.absent], last=False)
    prepared = (
        spell_object({"path": p.path, "size": p.size_bytes, "sha256": p.sha256, "blake3": p.blake3})
        for p in repo.prepared
    )
    yield from list_lines("prepared", prepared, last=True)
    yield "  }" if last else "  },"
