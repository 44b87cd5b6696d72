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
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundler.errors import ManifestError
from bundler.files.digest import sha256_bytes
from bundler.plan.entry import Entry
from bundler.plan.file_entry import FileEntry
from bundler.plan.manifest_rules import BundleName, Commands, entry_hint
from bundler.plan.names import RepoKind, RepoType, is_repo_id
from bundler.text.documents import document_address
from bundler.text.fault import Fault, InvalidFileError
from bundler.text.reader import Reader
from bundler.text.rules import Key, key
from bundler.text.schema import schema_text
from bundler.text.text_file import NotATextFileError, parse_yaml, read_text_file
from bundler.text.trees import YamlTree
from bundler.text.wording import close_matches

__all__ = ["SECTIONS", "Entry", "FileEntry", "InvalidManifestError", "Manifest", "ManifestFile", "manifest_schema"]

MANIFEST_VERSION = 1


class InvalidManifestError(InvalidFileError, ManifestError):
    """A manifest is malformed; holds all faults."""

    next_step = f"{document_address('manifests/README.md#keys')} explains every key"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a bundle should hold.

    Attributes:
        name: The bundle's name; its file is ``NAME.tar.zst``.
        entries: Tokenizers, models, datasets, kernels, spaces, each in the order of the file.
        files: Files of other hosts.
        prove: Commands that a fetch runs as a proof.
        version: Version of the manifest's schema.
    """

    name: str
    entries: tuple[Entry, ...]
    files: tuple[FileEntry, ...] = ()
    prove: tuple[str, ...] = ()
    version: int = MANIFEST_VERSION

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the canonical form of what is wanted; how it is proven is no part of that."""
        entries = sorted(json.dumps(entry.canonical(), sort_keys=True) for entry in self.entries)
        files = sorted(json.dumps(entry.canonical(), sort_keys=True) for entry in self.files)
        # As for newer keys of an entry.
        return sha256_bytes(json.dumps([self.version, self.name, entries, *([files] if files else [])]).encode())

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
        files = read.files if read else ()
        if not (entries or files) and not reader.faults and not may_be_empty:
            listed = f"{', '.join(SECTIONS)} or files"
            reader.fault("", f"expected at least one entry under {listed}; found none", 1)
        _check_names(entries, reader)
        _check_places(files, reader)
        if read is None or reader.faults:
            raise InvalidManifestError(source, reader.faults)
        return cls(name=read.name, entries=entries, files=files, prove=read.prove)


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
        files: Files of other hosts.
        prove: A command, or a list of them, for a shell: `bundle fetch` runs each on what the bundle holds, without a
            network, and makes no bundle if one fails.
    """

    version: Literal[1] = key(about=Key(missing=f"write version: {MANIFEST_VERSION}", expected="the number 1"))
    name: BundleName = key(about=Key(missing="the bundle's file is called by it: name: my-bundle"))
    tokenizers: tuple[Entry, ...] = key((), _section("tokenizer"))
    models: tuple[Entry, ...] = key((), _section("model"))
    datasets: tuple[Entry, ...] = key((), _section("dataset"))
    kernels: tuple[Entry, ...] = key((), _section("kernel"))
    spaces: tuple[Entry, ...] = key((), _section("space"))
    files: tuple[FileEntry, ...] = key(
        (),
        Key(
            expected="a list of files ('- url: …')",
            instead=lambda text: f"write - url: {text}",
            null_is_empty=True,
        ),
    )
    prove: tuple[str, ...] = key(
        (),
        Key(
            shape=Commands,
            store=lambda commands: (commands,) if isinstance(commands, str) else commands,
            synonyms=("proof", "command"),
            expected="a command such as python train.py, or a list of commands",
        ),
    )


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
            for section in (*SECTIONS, "files")
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


def _check_places(files: tuple[FileEntry, ...], reader: Reader) -> None:
    """Check that no two files are one, or go to one place."""
    known = [entry for entry in files if not any(fault.path.startswith(entry.place) for fault in reader.faults)]
    seen: dict[str, FileEntry] = {}
    for entry in known:
        for what in (entry.name, entry.destination):
            if (first := seen.setdefault(what, entry)) is not entry:
                path = f"{entry.place}.url"
                reader.fault(
                    path, f"goes to the same place as {first.place}: {entry.destination}", reader.line(path)
                )
                break


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
