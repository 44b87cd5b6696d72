"""The manifest: which repositories a bundle should hold; parsed and validated from YAML.

Rule book:

* `Manifest.parse` names every fault in one error, each with its key path, its line and what to write instead;
* unknown keys and versions are refused: a misspelt `ignore_patterns` must not quietly download everything;
* an entry says *what* (`repo_id`, `revision`), *under which names* (`aliases`) and *how much* (patterns, the two
  permissions); it never says where from: the endpoint belongs to the environment, not to the file;
* `digest` depends only on the meaning: comments, the order of keys and entries, and writing out a default do not
  change it.

`manifests/README.md` explains the file to people, `manifests/schema.json` to their editors. Nothing here uses a
network: `bundler.hub.selection.resolve` finds out whether a repo exists.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundler.errors import ManifestError
from bundler.files.digest import sha256_bytes
from bundler.plan.manifest_rules import (
    Backend,
    BundleName,
    ConfigName,
    DataDir,
    DataFiles,
    FilePattern,
    Platform,
    RepoId,
    Revision,
    TorchVersion,
    entry_hint,
)
from bundler.plan.names import CODE_KINDS, RepoKind, RepoType, is_repo_id, repo_type_of
from bundler.text.documents import document_address
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.reader import Reader
from bundler.text.rules import Key, key
from bundler.text.schema import schema_text
from bundler.text.text_file import NotATextFileError, parse_yaml, read_text_file
from bundler.text.trees import YamlTree
from bundler.text.wording import close_matches

MANIFEST_VERSION = 1

# Kind of entry -> why it does not have the key.
_NO_PICKLE = {
    "tokenizer": "it is about model weights; a tokenizer entry has no weights",
    "dataset": "it is about model weights; a dataset's files are taken as they are",
    "kernel": "it is about model weights; a kernel is code",
    "space": "it is about model weights; a space's files are taken as they are",
}
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


class InvalidManifestError(InvalidFileError, ManifestError):
    """A manifest is malformed; holds all faults."""

    next_step = f"{document_address('manifests/README.md#keys')} explains every key"


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

    def _canonical(self) -> dict[str, object]:
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
        return canonical | {name: value for name, value in newer.items() if value}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a bundle should hold.

    Attributes:
        name: The bundle's name; its file is ``NAME.tar.zst``.
        entries: Tokenizers, models, datasets, kernels, spaces, each in the order of the file.
        version: Version of the manifest's schema.
    """

    name: str
    entries: tuple[Entry, ...]
    version: int = MANIFEST_VERSION

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the canonical form."""
        entries = sorted(json.dumps(entry._canonical(), sort_keys=True) for entry in self.entries)
        return sha256_bytes(json.dumps([self.version, self.name, entries]).encode())

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read and parse a manifest file.

        Raises:
            ManifestError: There is no such file, it is too long or not UTF-8, or it has faults.
            OSError: It cannot be read.
        """
        return cls.parse(read_manifest(path), source=str(path))

    @classmethod
    def parse(cls, text: str, *, source: str = "manifest", may_be_empty: bool = False) -> Manifest:
        """Parse and validate the text of a manifest.

        Args:
            text: YAML.
            source: The file's name for messages.
            may_be_empty: Whether it may have no entries yet.

        Raises:
            InvalidManifestError: It has faults; the error names all of them.
        """
        root = parse_yaml(text, source, InvalidManifestError)
        reader = Reader(YamlTree())
        if found := reader.other_version(root, "version", MANIFEST_VERSION):
            message = (
                f"expected {MANIFEST_VERSION}, found {found}; if a newer bundler wrote this file, upgrade this one"
            )
            raise InvalidManifestError(source, [Fault("version", reader.tree.key_line(root, "version"), message)])
        read = reader.read(ManifestFile, root)
        entries = () if read is None else tuple(entry for name in SECTIONS for entry in getattr(read, name))
        if not entries and not reader.faults and not may_be_empty:
            listed = f"{', '.join(SECTIONS[:-1])} or {SECTIONS[-1]}"
            reader.fault("", f"expected at least one entry under {listed}; found none", 1)
        _check_names(entries, reader)
        if read is None or reader.faults:
            raise InvalidManifestError(source, reader.faults)
        return cls(name=read.name, entries=entries)


def _section(kind: RepoKind) -> Key:
    return Key(
        variant=kind,
        synonyms=() if kind == "model" else (kind,),
        expected="a list of entries ('- repo_id: …')",
        instead=entry_hint,
        null_is_empty=True,
    )


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    """The keys of a manifest file; one at least of the lists has an entry.

    Attributes:
        version: Of this schema.
        name: The bundle's name; its file is NAME.tar.zst.
        tokenizers: Repositories of which only tokenizer and configuration are wanted.
        models: Repositories of which the weights are wanted too.
        datasets: Dataset repositories.
        kernels: Repositories of the kernels library, with compiled code for GPUs.
        spaces: Spaces, for instance the metrics of the evaluate library.
    """

    version: Literal[1] = key(about=Key(missing=f"write version: {MANIFEST_VERSION}", expected="the number 1"))
    name: BundleName = key(about=Key(missing="the bundle's file is called by it: name: my-bundle"))
    tokenizers: tuple[Entry, ...] = key((), _section("tokenizer"))
    models: tuple[Entry, ...] = key((), _section("model"))
    datasets: tuple[Entry, ...] = key((), _section("dataset"))
    kernels: tuple[Entry, ...] = key((), _section("kernel"))
    spaces: tuple[Entry, ...] = key((), _section("space"))


# The lists of a manifest, in its order.
SECTIONS = ("tokenizers", "models", "datasets", "kernels", "spaces")


def manifest_schema() -> str:
    """Return the text of `manifests/schema.json`."""
    return schema_text(
        ManifestFile,
        title="Bundle manifest",
        description="Which Hugging Face repositories a bundle holds. See manifests/README.md.",
        anyOf=[
            {"required": [section], "properties": {section: {"type": "array", "minItems": 1}}}
            for section in SECTIONS
        ],
    )


def read_manifest(path: Path) -> str:
    """Return the text of a manifest file.

    Raises:
        ManifestError: There is no such file, or it is too long or not UTF-8.
        OSError: It cannot be read.
    """
    try:
        return read_text_file(path, "manifest")
    except NotATextFileError as error:
        raise ManifestError(f"{path}: {error}") from error
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise ManifestError(
            f"{path}: cannot read the manifest: {error.strerror}", hint=_suggest_manifests(path)
        ) from error


def _suggest_manifests(path: Path) -> str | None:
    """Return a hint that names manifests in or beside `path`, or says how to make one of a repo's name; else None."""
    if path.is_dir():
        names = sorted(str(p) for p in path.glob("*.yaml"))
        return f"name one of its files: {', '.join(names)}" if names else "name a file, not a folder"
    try:
        names = sorted(p.name for p in path.parent.glob("*.yaml"))
    except OSError:
        return None
    close = close_matches(path.name, names, cutoff=0.4)
    if not close and path.suffix not in (".yaml", ".yml") and is_repo_id(str(path)):
        file = f"{path.name.lower()}.yaml"
        return f"is it a repo? bundle add {path} -o {file} && bundle fetch {file}"
    close = close or names[:5]
    return f"{path.parent} has {', '.join(close)}" if close else None


def _check_names(entries: tuple[Entry, ...], reader: Reader) -> None:
    """Check that every name means one repository, and note a fault for each that does not."""
    known = [entry for entry in entries if entry.repo_id]
    seen: dict[tuple[RepoKind, str, str], Entry] = {}
    # On the Hub a model and a dataset may have the same name; tokenizers are in model repos.
    owners: dict[tuple[RepoType, str], Entry] = {}
    for entry in known:
        owners.setdefault((entry.repo_type, entry.repo_id), entry)
        first = seen.setdefault((entry.kind, entry.repo_id, entry.revision), entry)
        if first is not entry:
            path = f"{entry.path}.repo_id"
            message = f"{entry.repo_id} at {entry.revision} is {first.path} already; make them one entry"
            reader.fault(path, message, reader.line(path))
    taken: dict[tuple[RepoType, str], Entry] = {}
    wrong = {fault.path for fault in reader.faults}
    for entry in known:
        for index, alias in enumerate(entry.aliases):
            path = f"{entry.path}.aliases[{index}]"
            if path in wrong:
                continue
            owner = owners.get((entry.repo_type, alias))
            other = taken.setdefault((entry.repo_type, alias), entry)
            if alias == entry.repo_id:
                reader.fault(path, f"{alias} is the entry's own repo_id; leave it out", reader.line(path))
            elif owner is not None:
                message = f"{alias} is the repo_id of {owner.path}; a name can mean only one repository"
                reader.fault(path, message, reader.line(path))
            elif other.repo_id != entry.repo_id:
                message = f"{alias} is an alias of {other.label} already; a name can mean only one repository"
                reader.fault(path, message, reader.line(path))
