"""The lock: what a manifest resolved to, as a pure value with one canonical text form.

A lock pins every entry to a commit and lists its files with sizes and digests. `bundle lock` writes it with what
the Hub publishes; `bundle fetch` completes it with our own SHA-256 and BLAKE3 of each file. A complete lock
decides every byte of the bundle and every name in the installed cache.

Rule book:

* the text form is JSON with one file to a line, keys and lists in a fixed order: equal locks are equal bytes;
* `Lock.loads` trusts nothing: every path, digest and number is checked, all faults are named in one error;
* unknown keys and unknown versions are refused, since ignoring what one does not understand is guessing.

Nothing here reads a file or a network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

from bundler.errors import FormatError, LockError
from bundler.files.digest import sha256_bytes
from bundler.files.paths import check_relative_path
from bundler.plan.names import RepoKind, RepoType, is_bundle_name, is_repo_id, is_revision

LOCK_VERSION = 1

_HEX40 = re.compile(r"[0-9a-f]{40}")
_HEX64 = re.compile(r"[0-9a-f]{64}")


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

    path: str
    size_bytes: int
    blob_id: str
    lfs_sha256: str | None = None
    sha256: str | None = None
    blake3: str | None = None

    @property
    def etag(self) -> str:
        """The name of the file's blob in the Hugging Face cache."""
        return self.lfs_sha256 or self.blob_id


@dataclass(frozen=True, kw_only=True)
class PreparedFile:
    """One file of a dataset as the `datasets` library prepared it, so that it loads by name offline.

    Attributes:
        path: POSIX path below the dataset's own folder in `HF_HOME/datasets`.
        size_bytes: Length of the content.
        sha256: SHA-256 of the content.
        blake3: BLAKE3 of the content.
    """

    path: str
    size_bytes: int
    sha256: str
    blake3: str


@dataclass(frozen=True, kw_only=True)
class LockedRepo:
    """One manifest entry, pinned.

    Attributes:
        kind: The manifest list it came from, singular.
        repo_id: Canonical id on the Hub.
        revision: What the manifest asked for: branch, tag or commit.
        commit: What that resolved to.
        aliases: Other names that code loads it by, sorted.
        trust_remote_code: Its Python is shipped and may be run.
        allow_pickle: Its pickle weights are shipped.
        configs: Dataset configurations to prepare, sorted; empty for all, or for none where there are `data_files`.
        data_files: Choices of a dataset's files to prepare besides, each as JSON, sorted.
        files: Selected files, sorted by path.
        absent: Optional files that the libraries probe and the commit does not have, sorted.
        prepared: For a dataset, its prepared form, sorted by path; empty until fetched.
    """

    kind: RepoKind
    repo_id: str
    revision: str
    commit: str
    aliases: tuple[str, ...] = ()
    trust_remote_code: bool = False
    allow_pickle: bool = False
    configs: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()
    files: tuple[LockedFile, ...]
    absent: tuple[str, ...] = ()
    prepared: tuple[PreparedFile, ...] = ()

    @property
    def repo_type(self) -> RepoType:
        """The Hub's word for where the repo lives."""
        return "dataset" if self.kind == "dataset" else "model"

    @property
    def size_bytes(self) -> int:
        """Sum of the selected files' sizes."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Everything a manifest resolved to.

    Attributes:
        name: The bundle's name.
        manifest_sha256: `Manifest.digest()` of the manifest this was resolved from.
        repos: One per manifest entry, in manifest order.
    """

    name: str
    manifest_sha256: str
    repos: tuple[LockedRepo, ...]

    @property
    def is_complete(self) -> bool:
        """Whether our own digests of every file are known, so that a bundle can be packed from it."""
        return all(file.sha256 and file.blake3 for repo in self.repos for file in repo.files)

    @property
    def digest(self) -> str:
        """``sha256:`` and the SHA-256 of the canonical text."""
        return f"sha256:{sha256_bytes(self.dumps().encode())}"

    def with_repos(self, repos: tuple[LockedRepo, ...]) -> Lock:
        """Return a copy with other repos."""
        return replace(self, repos=repos)

    def dumps(self) -> str:
        """Return the canonical text: JSON, one file to a line, ending in a newline."""
        lines = ["{"]
        lines.append(f' "lock_version": {LOCK_VERSION},')
        lines.append(f' "name": {_json(self.name)},')
        lines.append(f' "manifest_sha256": {_json(self.manifest_sha256)},')
        lines.append(' "repos": [')
        for index, repo in enumerate(self.repos):
            lines.extend(_repo_lines(repo, last=index == len(self.repos) - 1))
        lines.extend([" ]", "}", ""])
        return "\n".join(lines)

    @classmethod
    def loads(cls, text: str, *, source: str = "lock") -> Lock:
        """Parse and validate the text form.

        Args:
            text: What `dumps` wrote, or an edit of it.
            source: The file's name for error messages.

        Raises:
            LockError: Not JSON, another version, or malformed; every fault is named with its key path.
        """
        try:
            raw = json.loads(text, object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as error:
            raise LockError(f"{source}: expected a lock in JSON: {error}", hint=_REGENERATE) from error
        if not isinstance(raw, dict):
            raise LockError(f"{source}: expected a JSON object, found {_type(raw)}", hint=_REGENERATE)
        version = raw.get("lock_version")
        if version != LOCK_VERSION or isinstance(version, bool):
            raise LockError(
                f"{source}: lock_version: expected {LOCK_VERSION}, found {version!r}",
                hint="a newer `bundle` wrote it: upgrade this one, or write the lock again with `bundle lock`",
            )
        reader = _Reader()
        lock = reader.lock(raw)
        if reader.faults:
            listing = "\n".join(f"  {fault}" for fault in reader.faults)
            raise LockError(f"{source}: {len(reader.faults)} fault(s):\n{listing}", hint=_REGENERATE)
        return lock


_REGENERATE = "write it again with `bundle lock`"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _inline(pairs: dict[str, object]) -> str:
    return "{" + ", ".join(f"{_json(k)}: {_json(v)}" for k, v in pairs.items() if v is not None) + "}"


def _list_lines(key: str, rows: list[str], *, last: bool) -> Iterator[str]:
    end = "" if last else ","
    if not rows:
        yield f'   "{key}": []{end}'
        return
    yield f'   "{key}": ['
    for index, row in enumerate(rows):
        yield f"    {row}{'' if index == len(rows) - 1 else ','}"
    yield f"   ]{end}"


def _repo_lines(repo: LockedRepo, *, last: bool) -> Iterator[str]:
    yield "  {"
    yield f'   "kind": {_json(repo.kind)},'
    yield f'   "repo_id": {_json(repo.repo_id)},'
    yield f'   "revision": {_json(repo.revision)},'
    yield f'   "commit": {_json(repo.commit)},'
    yield f'   "aliases": {_json(list(repo.aliases))},'
    yield f'   "trust_remote_code": {_json(repo.trust_remote_code)},'
    yield f'   "allow_pickle": {_json(repo.allow_pickle)},'
    yield f'   "configs": {_json(list(repo.configs))},'
    # Only where it is used: the text of every other lock is what it was before there was this key.
    if repo.data_files:
        yield f'   "data_files": {_json(list(repo.data_files))},'
    yield from _list_lines(
        "files",
        [
            _inline(
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
    yield from _list_lines("absent", [_json(name) for name in repo.absent], last=False)
    yield from _list_lines(
        "prepared",
        [
            _inline({"path": p.path, "size": p.size_bytes, "sha256": p.sha256, "blake3": p.blake3})
            for p in repo.prepared
        ],
        last=True,
    )
    yield "  }" if last else "  },"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} stands twice in one object")
    return result


_TYPE_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


def _type(value: object) -> str:
    return _TYPE_NAMES.get(type(value), "a number")


class _Reader:
    """Typed getters that note a fault with its key path and carry on, so that one run names them all."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def _get(self, raw: dict[str, Any], key: str, kind: type, where: str, *, default: Any = None) -> Any:
        value = raw.get(key)
        # bool is an int to Python, and would pass for a size.
        if type(value) is not kind:
            found = "nothing" if key not in raw else _type(value)
            self.faults.append(f"{where}{key}: expected {_TYPE_NAMES.get(kind, 'a number')}, found {found}")
            return default if default is not None else kind()
        return value

    def _unknown(self, raw: dict[str, Any], known: set[str], where: str) -> None:
        self.faults.extend(f"{where}{key}: unknown key" for key in sorted(set(raw) - known))

    def _path(self, text: str, where: str) -> str:
        try:
            return check_relative_path(text, what=where)
        except FormatError as error:
            self.faults.append(error.message)
            return text

    def _hex(
        self, raw: dict[str, Any], key: str, digits: re.Pattern[str], where: str, *, required: bool
    ) -> str | None:
        if not required and key not in raw:
            return None
        value: str = self._get(raw, key, str, where, default="")
        if value and not digits.fullmatch(value):
            width = 40 if digits is _HEX40 else 64
            self.faults.append(f"{where}{key}: expected {width} lower-case hex digits, found {value[:80]!r}")
        return value

    def _objects(self, raw: dict[str, Any], key: str, where: str) -> Iterator[tuple[dict[str, Any], str]]:
        for index, item in enumerate(self._get(raw, key, list, where)):
            place = f"{where}{key}[{index}]"
            if isinstance(item, dict):
                yield item, f"{place}."
            else:
                self.faults.append(f"{place}: expected an object, found {_type(item)}")

    def _strings(self, raw: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
        values = self._get(raw, key, list, where)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                self.faults.append(f"{where}{key}[{index}]: expected a string, found {_type(value)}")
        return self._sorted(tuple(v for v in values if isinstance(v, str)), f"{where}{key}")

    def _sorted(self, values: tuple[str, ...], where: str) -> tuple[str, ...]:
        if list(values) != sorted(set(values)):
            self.faults.append(f"{where}: expected sorted and without repeats")
        return values

    def _size(self, raw: dict[str, Any], where: str) -> int:
        size: int = self._get(raw, "size", int, where)
        if size < 0:
            self.faults.append(f"{where}size: expected 0 or more, found {size}")
        return size

    def lock(self, raw: dict[str, Any]) -> Lock:
        self._unknown(raw, {"lock_version", "name", "manifest_sha256", "repos"}, "")
        name: str = self._get(raw, "name", str, "")
        if not is_bundle_name(name):
            self.faults.append(f"name: expected lower-case letters, digits, '.', '_' and '-', found {name!r}")
        digest = self._hex(raw, "manifest_sha256", _HEX64, "", required=True) or ""
        repos = tuple(self.repo(item, where) for item, where in self._objects(raw, "repos", ""))
        return Lock(name=name, manifest_sha256=digest, repos=repos)

    def repo(self, raw: dict[str, Any], where: str) -> LockedRepo:
        self._unknown(
            raw,
            {
                "kind",
                "repo_id",
                "revision",
                "commit",
                "aliases",
                "trust_remote_code",
                "allow_pickle",
                "configs",
                "data_files",
                "files",
                "absent",
                "prepared",
            },
            where,
        )
        kind = self._get(raw, "kind", str, where)
        if kind not in get_args(RepoKind):
            self.faults.append(f"{where}kind: expected one of {', '.join(get_args(RepoKind))}, found {kind!r}")
        repo_id = self._get(raw, "repo_id", str, where)
        aliases = self._strings(raw, "aliases", where)
        for text, place in [
            (repo_id, f"{where}repo_id"),
            *((a, f"{where}aliases[{i}]") for i, a in enumerate(aliases)),
        ]:
            if not is_repo_id(text):
                self.faults.append(f"{place}: expected 'name' or 'namespace/name', found {text!r}")
        revision = self._get(raw, "revision", str, where)
        if not is_revision(revision):
            self.faults.append(f"{where}revision: expected a branch, tag or commit, found {revision!r}")
        files = tuple(self.file(item, place) for item, place in self._objects(raw, "files", where))
        self._sorted(tuple(f.path for f in files), f"{where}files")
        absent = self._strings(raw, "absent", where)
        for index, path in enumerate(absent):
            self._path(path, f"{where}absent[{index}]")
        prepared = tuple(self.prepared(item, place) for item, place in self._objects(raw, "prepared", where))
        self._sorted(tuple(p.path for p in prepared), f"{where}prepared")
        return LockedRepo(
            kind=kind,
            repo_id=repo_id,
            revision=revision,
            commit=self._hex(raw, "commit", _HEX40, where, required=True) or "",
            aliases=aliases,
            trust_remote_code=self._get(raw, "trust_remote_code", bool, where),
            allow_pickle=self._get(raw, "allow_pickle", bool, where),
            configs=self._strings(raw, "configs", where),
            data_files=self._strings(raw, "data_files", where) if "data_files" in raw else (),
            files=files,
            absent=absent,
            prepared=prepared,
        )

    def file(self, raw: dict[str, Any], where: str) -> LockedFile:
        self._unknown(raw, {"path", "size", "blob_id", "lfs_sha256", "sha256", "blake3"}, where)
        file = LockedFile(
            path=self._path(self._get(raw, "path", str, where), f"{where}path"),
            size_bytes=self._size(raw, where),
            blob_id=self._hex(raw, "blob_id", _HEX40, where, required=True) or "",
            lfs_sha256=self._hex(raw, "lfs_sha256", _HEX64, where, required=False),
            sha256=self._hex(raw, "sha256", _HEX64, where, required=False),
            blake3=self._hex(raw, "blake3", _HEX64, where, required=False),
        )
        if file.lfs_sha256 and file.sha256 and file.lfs_sha256 != file.sha256:
            self.faults.append(f"{where}sha256: differs from lfs_sha256, though both are the SHA-256 of the file")
        return file

    def prepared(self, raw: dict[str, Any], where: str) -> PreparedFile:
        self._unknown(raw, {"path", "size", "sha256", "blake3"}, where)
        return PreparedFile(
            path=self._path(self._get(raw, "path", str, where), f"{where}path"),
            size_bytes=self._size(raw, where),
            sha256=self._hex(raw, "sha256", _HEX64, where, required=True) or "",
            blake3=self._hex(raw, "blake3", _HEX64, where, required=True) or "",
        )
