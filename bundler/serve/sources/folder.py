"""Repos that are plain folders: `DIR/<namespace>/<name>/...` for models, others in `DIR/datasets/...` and its like.

The layout is that of the Hub's addresses:

    DIR/openai-community/gpt2/config.json       the model openai-community/gpt2
    DIR/bert-base-uncased/config.json           the model bert-base-uncased: a folder that holds files is a repo,
    DIR/datasets/org/corpus/train.jsonl         one that holds only folders is a namespace
    DIR/kernels/org/relu/build/...              a kernel; DIR/spaces/... for spaces
    DIR/hub.yaml                                optional: renames, gated repos, tags, branches (`settings`)

Rule book:

* `main` is whatever the folder holds now; its commit follows from the content alone (`git_objects`), so a changed
  file makes a new commit, and the old one, whose bytes are gone, is unknown from then on;
* `hub.yaml` is read again when it was changed;
* nothing is hashed before a repo is first asked for, and no file twice while its stamp stays the same.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bundler.errors import FormatError, ManifestError
from bundler.plan.git_objects import commit_id
from bundler.plan.names import HUB_TYPES, RepoType, address_prefix, is_commit, is_repo_id
from bundler.serve.source import (
    DEFAULT_BRANCH,
    ContentChangedError,
    Refs,
    RepoKey,
    RepoNotServedError,
    RevisionNotServedError,
    Snapshot,
)
from bundler.serve.sources.files import (
    DiskFile,
    FileContent,
    FileStamp,
    is_real_folder,
    is_served_name,
    list_repo_files,
)
from bundler.serve.sources.hashes import HashCache
from bundler.serve.sources.lfs import LfsRule
from bundler.serve.sources.settings import SETTINGS_FILE, HubSettings

# The first segments of the Hub's addresses that are not namespaces of models.
RESERVED = frozenset({"api", "datasets", "models", "spaces", "kernels", "buckets", "collections", "papers"})

_PREFIXES: dict[RepoType, str] = {repo_type: address_prefix(repo_type) for repo_type in HUB_TYPES}

# What a repo has at its top or one folder below: a card, a configuration, weights, a vocabulary, data.
_KNOWN_FILES = (
    "README.md",
    ".gitattributes",
    "config.json",
    "*_config.json",
    "tokenizer*",
    "vocab.*",
    "*.safetensors",
    "*.bin",
    "*.gguf",
    "*.parquet",
    "*.arrow",
    "*.jsonl",
    "*.csv",
)


_log = logging.getLogger(__name__)


class FolderSource:
    """Serves a folder of plain repos.

    Args:
        root: The folder; see the module's text for its layout.

    Raises:
        FormatError: It holds nothing that looks like a repo, or is one itself.
        ManifestError: Its `hub.yaml` is malformed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve(strict=True)
        self._loaded = HubSettings.load(self._root)
        self._loaded_stamp = self._settings_stamp()
        self._hashes = HashCache()
        self._locks: dict[RepoKey, threading.Lock] = {}
        # Of each repo and branch: its snapshot and the files to open, as of the last look.
        self._heads: dict[RepoKey, dict[str, tuple[Snapshot, Mapping[str, DiskFile]]]] = {}
        repos = self.repos()
        inside = " (files lie directly in it: is it one repo?)" if _holds_files(self._root) else ""
        expected = f"{root}: expected repos in folders <namespace>/<name> or datasets/<namespace>/<name>"
        if not repos:
            raise FormatError(
                f"{expected}, found none{inside}",
                hint="name the folder that holds the namespaces, for instance DIR of DIR/openai-community/gpt2",
            )
        # Any two levels of folders have the layout, and /etc is not meant to be published.
        settled = (self._root / SETTINGS_FILE).is_file()
        if not settled and not any(_looks_like_repo(self._folder(key)) for key in repos):
            raise FormatError(
                f"{expected}, found {len(repos)} folders in such places ({repos[0]}, …) and in none of them a file by "
                f"which a repo is known: {', '.join(_KNOWN_FILES)}{inside}",
                hint=f"name another folder; if these are repos, put a README.md into one, or a {SETTINGS_FILE} beside "
                "them",
            )

    @property
    def _settings(self) -> HubSettings:
        """What `hub.yaml` says now; while it is malformed, what it said before."""
        stamp = self._settings_stamp()
        if stamp != self._loaded_stamp:
            self._loaded_stamp = stamp
            try:
                self._loaded = HubSettings.load(self._root)
                _log.info("%s was read again", SETTINGS_FILE)
            except (ManifestError, OSError) as error:
                _log.warning("%s is not used as it is now: %s", SETTINGS_FILE, error)
        return self._loaded

    def _settings_stamp(self) -> FileStamp | None:
        try:
            return FileStamp.of((self._root / SETTINGS_FILE).stat())
        except OSError:
            return None

    def repos(self) -> list[RepoKey]:
        """Return every repo, sorted."""
        found = [RepoKey("model", repo_id) for repo_id in _repo_ids(self._root, reserved=RESERVED)]
        for repo_type, prefix in _PREFIXES.items():
            folder = self._root / prefix
            if prefix and is_real_folder(folder, root=self._root):
                found += [RepoKey(repo_type, repo_id) for repo_id in _repo_ids(folder, reserved=frozenset())]
        return sorted(found)

    def canonical(self, key: RepoKey) -> RepoKey:
        """Return the present name of a repo (see `Source`)."""
        key = self._settings.renames.get(key, key)
        self._folder(key)
        return key

    def tokens(self, key: RepoKey) -> frozenset[str] | None:
        """Return the access tokens that open a gated repo; None for one that is open to all."""
        return self._settings.gated.get(key)

    def refs(self, key: RepoKey) -> Refs:
        """Return branches and tags of a repo, given by its canonical name."""
        branches = {name: self._read(key, name).commit for name in self._branches(key)}
        tags = self._settings.tags.get(key, {})
        return Refs(branches=branches, tags={tag: branches[branch] for tag, branch in tags.items()})

    def snapshot(self, key: RepoKey, revision: str) -> Snapshot:
        """Return the files of a branch, tag or commit (see `Source`)."""
        branches = self._branches(key)
        branch = revision.removeprefix("refs/heads/")
        branch = self._settings.tags.get(key, {}).get(revision.removeprefix("refs/tags/"), branch)
        if branch in branches:
            return self._read(key, branch)
        if is_commit(revision):
            if (head := self._head(key, revision)) is None:
                for name in branches:
                    self._read(key, name)
                head = self._head(key, revision)
            if head is not None:
                return head[0]
        raise RevisionNotServedError(f"{key} has no branch, tag or commit {revision!r}")

    def open(self, key: RepoKey, snapshot: Snapshot, path: str) -> FileContent:
        """Open a file of a snapshot (see `Source`)."""
        snapshot.file(path)
        head = self._head(key, snapshot.commit)
        if head is None:
            raise ContentChangedError(f"{key}: commit {snapshot.commit} has been replaced on disk")
        try:
            return head[1][path].open()
        except ContentChangedError:
            # Look again when the commit is next asked for, and find that it is no more.
            self._heads.pop(key, None)
            raise

    def _branches(self, key: RepoKey) -> dict[str, Path]:
        main = self._folder(key)
        others = self._settings.branches.get(key, {})
        return {DEFAULT_BRANCH: main} | {name: self._root / folder for name, folder in others.items()}

    def _read(self, key: RepoKey, branch: str) -> Snapshot:
        """List a branch as it is on disk now; hash what is new."""
        with self._locks.setdefault(key, threading.Lock()):
            folder = self._branches(key)[branch]
            if not is_real_folder(folder, root=self._root):
                raise RevisionNotServedError(f"{key}: the folder of branch {branch!r} is missing: {folder}")
            on_disk = list_repo_files(folder, root=self._root)
            served = self._hashes.identify(on_disk.values(), LfsRule.of(on_disk), what=str(key))
            commit = commit_id({path: file.blob_id for path, file in served.items()})
            snapshot = Snapshot(commit=commit, files=MappingProxyType(served))
            self._heads.setdefault(key, {})[branch] = (snapshot, on_disk)
            return snapshot

    def _head(self, key: RepoKey, commit: str) -> tuple[Snapshot, Mapping[str, DiskFile]] | None:
        heads = list(self._heads.get(key, {}).values())
        return next((head for head in heads if head[0].commit == commit), None)

    def _folder(self, key: RepoKey) -> Path:
        """Return where a repo lies, having checked that it is a repo and not a part of one."""
        base = self._root / _PREFIXES[key.repo_type]
        parts = key.repo_id.split("/")
        if (
            is_repo_id(key.repo_id)
            and (key.repo_type != "model" or parts[0] not in RESERVED)
            and all(is_served_name(part) for part in parts)
            and is_real_folder(folder := base.joinpath(*parts), root=self._root)
            and _holds_files(base / parts[0]) == (len(parts) == 1)
        ):
            return folder
        raise RepoNotServedError(f"no {key.repo_type} {key.repo_id!r} here")


def _repo_ids(base: Path, *, reserved: frozenset[str]) -> list[str]:
    found: list[str] = []
    for folder in _folders(base):
        if folder.name in reserved:
            continue
        if _holds_files(folder):
            found.append(folder.name)
        else:
            found += [f"{folder.name}/{repo.name}" for repo in _folders(folder)]
    return found


def _folders(base: Path) -> list[Path]:
    """Return the folders whose names can stand in a repo id; links are not repos."""
    return [p for p in base.iterdir() if is_repo_id(p.name) and is_served_name(p.name) and _is_folder(p)]


def _looks_like_repo(folder: Path) -> bool:
    """Tell whether a folder has a file, or a folder with a file, by which a repo is known."""
    places = [folder, *(path for path in folder.iterdir() if _is_folder(path))]
    names = {entry.name for place in places for entry in os.scandir(place) if entry.is_file()}
    return any(fnmatch.filter(names, pattern) for pattern in _KNOWN_FILES)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _holds_files(folder: Path) -> bool:
    """Tell a single-name repo from a namespace."""
    with os.scandir(folder) as entries:
        # Links count by what they point to: one to a folder, which is not served, makes no repo of a namespace.
        return any(is_served_name(e.name) and e.name != SETTINGS_FILE and e.is_file() for e in entries)
