"""Repos from an installed Hugging Face cache: `HF_HOME/hub/models--org--name` and the like.

What a cache knows is served under the commits, branches and ids that the original Hub gave it: refs from `refs/`,
sizes and ids from `trees/<commit>.json`, else from a blob's name, which is its etag. A repo under a second name, a
link beside the first, is a renamed repo.

Rule book:

* only files that are present are listed; a partial snapshot looks like a small repo;
* a folder is listed when its branch is asked for, or its commit for the first time: a client that follows a commit
  through thousands of files does not pay for that many listings;
* a file whose size is not the recorded one is damaged: it is left out, with a warning. Nothing else is verified
  here (`bundle verify` does): a client that checks hashes finds the rest;
* links are followed within the cache folder only. Tokens and locks are not below it, or not listed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bundler.plan.folders import KEPT_REFS
from bundler.plan.git_objects import lfs_pointer_id
from bundler.plan.names import HUB_TYPES, RepoType, is_commit, is_repo_id, repo_folder
from bundler.serve.source import (
    ContentChangedError,
    Refs,
    RepoKey,
    RepoNotServedError,
    RevisionNotServedError,
    ServedFile,
    Snapshot,
)
from bundler.serve.sources.files import DiskFile, FileContent, is_real_folder, list_repo_files
from bundler.serve.sources.hashes import HashCache
from bundler.serve.sources.lfs import LfsRule

_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# The only version of `trees/<commit>.json` there is so far.
_TREE_VERSION = 1

_log = logging.getLogger(__name__)


def cache_folder(path: Path) -> Path | None:
    """Return the folder of repos if `path` is an HF_HOME, or that folder itself; else None."""
    for folder in (path / "hub", path):
        if folder.is_dir() and any(_key_of(entry.name) for entry in folder.iterdir()):
            return folder
    return None


class CacheSource:
    """Serves an installed cache.

    Args:
        hub_folder: What `HF_HUB_CACHE` names: the folder with `models--…` and `datasets--…`.
    """

    def __init__(self, hub_folder: Path) -> None:
        self._root = hub_folder.resolve(strict=True)
        self._hashes = HashCache()
        # By repo and commit: its snapshot and the files to open, as of the last look.
        self._listed: dict[tuple[RepoKey, str], tuple[Snapshot, Mapping[str, DiskFile]]] = {}

    def repos(self) -> list[RepoKey]:
        """Return every repo that has a snapshot, sorted; second names of one are left out."""
        keys = {_key_of(entry.name): entry for entry in self._root.iterdir() if not entry.is_symlink()}
        return sorted(key for key, entry in keys.items() if key and (entry / "snapshots").is_dir())

    def canonical(self, key: RepoKey) -> RepoKey:
        """Return the repo that a name stands for, where that is a link to another (see `Source`)."""
        if is_repo_id(key.repo_id):
            folder = self._root / repo_folder(key.repo_id, key.repo_type)
            if folder.is_symlink() and (target := folder.resolve()).parent == self._root:
                folder, key = target, _key_of(target.name) or key
            if is_real_folder(folder / "snapshots", root=self._root):
                return key
        raise RepoNotServedError(f"no {key.repo_type} {key.repo_id!r} in this cache")

    def tokens(self, key: RepoKey) -> frozenset[str] | None:
        """Return None: whoever has the cache has the files."""

    def refs(self, key: RepoKey) -> Refs:
        """Return every name in `refs/` as a branch but those of bundles; a cache does not tell tags from branches."""
        base = self._folder(key) / "refs"
        branches = {}
        for path in sorted(base.rglob("*")) if base.is_dir() else []:
            name = path.relative_to(base).as_posix()
            if path.is_file() and not path.is_symlink() and not name.startswith(f"{KEPT_REFS}/"):
                # Stripped, since hand-made caches end refs in a newline.
                commit = path.read_text("ascii", "replace").strip()
                if is_commit(commit):
                    branches[name] = commit
        return Refs(branches=branches)

    def snapshot(self, key: RepoKey, revision: str) -> Snapshot:
        """Return the present files of a commit, or of what a ref names (see `Source`)."""
        if is_commit(revision) and (listed := self._listed.get((key, revision))):
            return listed[0]
        commit = revision if is_commit(revision) else self.refs(key).branches.get(revision, "")
        folder = self._folder(key) / "snapshots" / commit
        if not commit or not is_real_folder(folder, root=self._root):
            raise RevisionNotServedError(f"{key} has no revision {revision!r} in this cache")
        on_disk = list_repo_files(folder, root=self._root)
        recorded = _recorded_files(self._folder(key) / "trees" / f"{commit}.json")
        served: dict[str, ServedFile] = {}
        nameless = []
        for path, file in on_disk.items():
            known = recorded.get(path) or _file_by_blob_name(file)
            if known is None:
                nameless.append(file)
            elif known.size_bytes != file.stamp.size_bytes:
                _log.warning(
                    "not served: %s of %s has %d bytes, recorded are %d",
                    *(path, key, file.stamp.size_bytes, known.size_bytes),
                )
            else:
                served[path] = known
        # Caches made without links have no blob names; where they have no list either, the files are hashed.
        served |= self._hashes.identify(nameless, LfsRule.of(on_disk), what=str(key))
        snapshot = Snapshot(commit=commit, files=MappingProxyType(dict(sorted(served.items()))))
        self._listed[key, commit] = (snapshot, on_disk)
        return snapshot

    def open(self, key: RepoKey, snapshot: Snapshot, path: str) -> FileContent:
        """Open a file of a snapshot (see `Source`)."""
        snapshot.file(path)
        try:
            return self._listed[key, snapshot.commit][1][path].open()
        except KeyError:
            raise ContentChangedError(f"{path}: has gone from the cache since it was listed") from None
        except ContentChangedError:
            # List the folder again when the commit is next asked for.
            self._listed.pop((key, snapshot.commit), None)
            raise

    def _folder(self, key: RepoKey) -> Path:
        return self._root / repo_folder(key.repo_id, key.repo_type)


def _key_of(folder_name: str) -> RepoKey | None:
    """Return the repo that a folder of the cache holds; None for other folders."""
    plural, *parts = folder_name.split("--")
    repo_type: RepoType | None = next((t for t in HUB_TYPES if f"{t}s" == plural), None)
    repo_id = "/".join(parts)
    return RepoKey(repo_type, repo_id) if repo_type and is_repo_id(repo_id) else None


def _file_by_blob_name(file: DiskFile) -> ServedFile | None:
    """Read the ids of a linked file off its blob's name; None when that is no etag."""
    folder, _, name = file.location.rpartition("/")
    size, is_blob = file.stamp.size_bytes, folder.endswith("/blobs")
    if is_blob and _SHA1.fullmatch(name):
        return ServedFile(path=file.path, size_bytes=size, blob_id=name)
    if is_blob and _SHA256.fullmatch(name):
        pointer = lfs_pointer_id(name, size)
        return ServedFile(path=file.path, size_bytes=size, blob_id=pointer, lfs_sha256=name)
    return None


def _recorded_files(path: Path) -> dict[str, ServedFile]:
    """Read `trees/<commit>.json`; entries, or a file, that cannot be understood are as good as missing."""
    try:
        listing = json.loads(path.read_text("utf-8"))
        if listing["format_version"] != _TREE_VERSION:
            return {}
        entries: dict[str, Any] = listing["files"]
        return {name: file for name, entry in entries.items() if (file := _recorded_file(name, entry))}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("ignored: %s is not a list of files (%s)", path, error)
        return {}


def _recorded_file(path: str, entry: dict[str, Any]) -> ServedFile | None:
    size, blob_id, sha256 = entry["size"], entry["blob_id"], entry.get("lfs_sha256")
    is_sound = (
        isinstance(size, int)
        and isinstance(blob_id, str)
        and _SHA1.fullmatch(blob_id)
        and (sha256 is None or (isinstance(sha256, str) and _SHA256.fullmatch(sha256)))
    )
    return ServedFile(path=path, size_bytes=size, blob_id=blob_id, lfs_sha256=sha256) if is_sound else None
