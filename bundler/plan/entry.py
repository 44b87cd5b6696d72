"""An entry of a manifest for a repository: what is wanted, under which names, and how much."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass

from bundler.plan.manifest_rules import (
    Backend,
    ConfigName,
    DataDir,
    DataFiles,
    FilePattern,
    Platform,
    RepoId,
    Revision,
    TorchVersion,
)
from bundler.plan.names import CODE_KINDS, RepoKind, RepoType, repo_type_of
from bundler.text.rules import Key, key

# Kind of entry -> why it does not have the key.
_NO_PICKLE = {
    "tokenizer": "it is about model weights; a tokenizer entry has no weights",
    "dataset": "it is about model weights; a dataset's files are taken as they are",
    "kernel": "it is about model weights; a kernel is code",
    "space": "it is about model weights; a space's files are taken as they are",
}
_NO_BASE = dict.fromkeys(("tokenizer", "dataset", "kernel", "space"), "it is about the base model of an adapter")
_NO_REMOTE_CODE = {
    "dataset": "loading scripts of datasets are no longer run by the datasets library",
    "kernel": "a kernel is code, and is listed for it",
    "space": "a space is taken for its code, and is listed for it",
}
_NOT_A_DATASET = ("tokenizer", "model", "kernel", "space")
_NO_CONFIGS = dict.fromkeys(_NOT_A_DATASET, "it names configurations of a dataset")
_NO_DATA_DIRS = dict.fromkeys(_NOT_A_DATASET, "it names folders of a dataset")
_NO_DATA_FILES = {
    **dict.fromkeys(_NOT_A_DATASET, "it chooses files of a dataset"),
    "model": "it chooses files of a dataset; allow_patterns does so here",
}
_KERNELS_ONLY = dict.fromkeys(("tokenizer", "model", "dataset", "space"), "it chooses builds of a kernel")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One wanted repository. The constructor trusts; `Manifest.parse` checks.

    Attributes:
        kind: The list that has it; decides the default choice of files.
        repo_id: Name on the Hub, ``namespace/name`` or, for a few old repos, ``name``.
        revision: Branch, tag or full commit. Quote it if YAML would read a number, such as "1.0".
        aliases: Other names that code loads it by, such as gpt2 for openai-community/gpt2.
        allow_patterns: Take exactly the files that match one of these, instead of the default choice. * matches
            across folders; a trailing / means everything below.
        ignore_patterns: Leave out the files that match one of these.
        trust_remote_code: Include the repository's Python, for classes that its config names. Loading it runs it.
        allow_pickle: Include pickle weights where there are no safetensors. Loading pickle can run code.
        base_elsewhere: The base model of this adapter comes with another bundle; without this key the proof wants it
            here.
        configs: Dataset configurations to prepare; empty for all, or for none where there are data_files or data_dirs.
        data_files: Further choices of files to prepare, as load_dataset(data_files=...) takes them. Each is kept as
            JSON.
        data_dirs: Folders to prepare, as load_dataset(data_dir=...) takes them.
        torch: Versions of torch that a kernel must have builds for, such as "2.13"; empty for all.
        backends: What a kernel must run on, such as cu128, rocm64 or cpu; empty for all.
        platforms: Processors and systems that a kernel must run on, such as x86_64-linux; empty for all.
        path: Key path in the manifest, for messages; not part of the entry's meaning.
    """

    kind: RepoKind = key(about=Key(filled_with="variant"))
    repo_id: RepoId = key(
        about=Key(missing="write repo_id: namespace/name", synonyms=("repo", "id", "path", "model"))
    )
    revision: Revision = key("main", Key(synonyms=("branch", "tag", "commit", "sha", "version")))
    aliases: tuple[RepoId, ...] = key((), Key(unique=True, synonyms=("alias",)))
    allow_patterns: tuple[FilePattern, ...] | None = key(
        None,
        Key(
            shape=tuple[FilePattern, ...],
            unique=True,
            synonyms=("include",),
            check=lambda patterns: (
                None if patterns else "an empty list takes no file; leave it out for the default"
            ),
            schema={"minItems": 1},
        ),
    )
    ignore_patterns: tuple[FilePattern, ...] = key((), Key(unique=True, synonyms=("exclude",)))
    trust_remote_code: bool = key(False, Key(not_in=_NO_REMOTE_CODE))
    allow_pickle: bool = key(False, Key(not_in=_NO_PICKLE))
    base_elsewhere: bool = key(False, Key(not_in=_NO_BASE))
    configs: tuple[ConfigName, ...] = key((), Key(unique=True, synonyms=("config", "subset"), not_in=_NO_CONFIGS))
    data_files: tuple[str, ...] = key(
        (),
        Key(
            shape=tuple[DataFiles, ...],
            # The order within one choice is kept, since `datasets` makes a name of it.
            store=lambda choices: tuple(json.dumps(choice, ensure_ascii=False) for choice in choices),
            unique=True,
            instead="put a dash before each choice of files, as load_dataset(data_files=...) takes it",
            not_in=_NO_DATA_FILES,
        ),
    )
    data_dirs: tuple[DataDir, ...] = key(
        (),
        Key(
            # `datasets` makes a name of it in this form.
            store=lambda folders: tuple(posixpath.normpath(folder) for folder in folders),
            unique=True,
            synonyms=("data_dir",),
            not_in=_NO_DATA_DIRS,
        ),
    )
    torch: tuple[TorchVersion, ...] = key((), Key(unique=True, not_in=_KERNELS_ONLY))
    backends: tuple[Backend, ...] = key(
        (), Key(unique=True, synonyms=("backend", "cuda", "device"), not_in=_KERNELS_ONLY)
    )
    platforms: tuple[Platform, ...] = key(
        (), Key(unique=True, synonyms=("platform", "arch"), not_in=_KERNELS_ONLY)
    )
    path: str = key("", Key(filled_with="path"))

    @property
    def trusts_code(self) -> bool:
        """Whether the code of the repository is carried, and may be run."""
        return self.trust_remote_code or self.kind in CODE_KINDS

    @property
    def repo_type(self) -> RepoType:
        """The Hub's type of the repo: a tokenizer is in a model repo."""
        return repo_type_of(self.kind)

    @property
    def label(self) -> str:
        """The entry's key path and name, for messages."""
        return f"{self.path} ({self.repo_id})" if self.path else self.repo_id

    def canonical(self) -> dict[str, object]:
        """Return what its meaning depends on."""
        canonical: dict[str, object] = {
            "kind": self.kind,
            "repo_id": self.repo_id,
            "revision": self.revision,
            "aliases": sorted(self.aliases),
            "allow_patterns": None if self.allow_patterns is None else sorted(self.allow_patterns),
            "ignore_patterns": sorted(self.ignore_patterns),
            "trust_remote_code": self.trust_remote_code,
            "allow_pickle": self.allow_pickle,
            "configs": sorted(self.configs),
        }
        # Only if they are used, so that manifests without these newer keys keep their digests.
        names = ("data_files", "data_dirs", "torch", "backends", "platforms")
        newer = {name: sorted(getattr(self, name)) for name in names}
        flags = {"base_elsewhere": True} if self.base_elsewhere else {}
        return canonical | flags | {name: value for name, value in newer.items() if value}
