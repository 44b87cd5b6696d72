"""The manifest: which repositories a bundle is wanted to hold, parsed and validated from YAML.

Rule book:

* `Manifest.parse` names every fault in one error, each with its key path, its line and what to write instead;
* unknown keys and versions are refused: a misspelt `ignore_patterns` must not quietly download everything;
* an entry says *what* (`repo_id`, `revision`), *under which names* (`aliases`) and *how much* (patterns, the two
  permissions); it never says where from: the endpoint belongs to the environment, not to the file;
* `digest` depends on the meaning alone: comments, the order of keys and entries, and defaults spelled out do not
  change it.

`manifests/README.md` explains the file to its writers, `manifests/schema.json` to their editors. Nothing here uses
a network: whether a repo exists is found out by `bundler.hub.selection.resolve`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import ManifestError
from bundler.files.digest import sha256_bytes
from bundler.plan.manifest_rules import (
    ELSEWHERE,
    ENTRY_KEYS,
    SECTIONS,
    SYNONYMS,
    TOP_KEYS,
    config_problem,
    pattern_problem,
    repo_id_problem,
    revision_problem,
)
from bundler.plan.names import RepoKind, RepoType, is_bundle_name, is_repo_id
from bundler.text import strict_yaml
from bundler.text.documents import document_address
from bundler.text.strict_yaml import Mapping, Node, Scalar, Sequence, StrictYamlError

MANIFEST_VERSION = 1
# A manifest is typed by people; a file this long is something else, and must not be parsed first to learn so.
MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a manifest.

    Attributes:
        path: Key path such as ``models[2].revision``; empty for the whole file.
        line: 1-based line, or None.
        message: What was expected, what was found, what to write.
    """

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = " ".join(filter(None, [self.path, f"(line {self.line})" if self.line else ""]))
        return f"{place}: {self.message}" if place else self.message


class InvalidManifestError(ManifestError):
    """A manifest with its faults.

    Attributes:
        faults: Every fault that was found, in the order of the file.
    """

    def __init__(self, source: str, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line or 0))
        count = len(self.faults)
        lines = "".join(f"\n  {fault}" for fault in self.faults)
        super().__init__(
            f"{source}: {count} {'fault' if count == 1 else 'faults'}{lines}",
            hint=f"{document_address('manifests/README.md#keys')} explains every key",
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One wanted repository. The constructor trusts; `Manifest.parse` checks.

    Attributes:
        kind: Which list it stands in; decides the default choice of files.
        repo_id: Name on the Hub, ``namespace/name`` or, for a few old repos, ``name``.
        revision: Branch, tag or full commit.
        aliases: Other names that code loads it by.
        allow_patterns: Takes exactly the files that match one of these, instead of the default choice.
        ignore_patterns: Leaves out the files that match one of these.
        trust_remote_code: Carry the repository's Python, for classes that its config names.
        allow_pickle: Carry pickle weights where there are no safetensors.
        configs: Dataset configurations to prepare; empty for all, or for none where there are `data_files`.
        data_files: What code passes to `load_dataset` as `data_files`, each as JSON; to be prepared too.
        path: Key path in the manifest, for messages; not part of the entry's meaning.
    """

    kind: RepoKind
    repo_id: str
    revision: str = "main"
    aliases: tuple[str, ...] = ()
    allow_patterns: tuple[str, ...] | None = None
    ignore_patterns: tuple[str, ...] = ()
    trust_remote_code: bool = False
    allow_pickle: bool = False
    configs: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()
    path: str = ""

    @property
    def repo_type(self) -> RepoType:
        """The Hub's word for where the repo lives."""
        return "dataset" if self.kind == "dataset" else "model"

    @property
    def label(self) -> str:
        """How to call the entry in a message: its key path and its name."""
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
        # Only where it is used, so that manifests from before there was this key keep their digests.
        return canonical | ({"data_files": sorted(self.data_files)} if self.data_files else {})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a bundle is wanted to hold.

    Attributes:
        name: The bundle's name; its file is ``NAME.tar.zst``.
        entries: Tokenizers, models, datasets, each in the order of the file.
        version: Of the manifest's schema.
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
            OSError: It may not be read.
        """
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ManifestError(
                f"{path}: cannot read the manifest: {error.strerror}", hint=_nearby(path)
            ) from error
        if len(content) > MAX_BYTES:
            raise ManifestError(f"{path}: longer than {MAX_BYTES} bytes; this is not a manifest")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ManifestError(f"{path}: not UTF-8 text (line {line})") from error
        return cls.parse(text, source=str(path))

    @classmethod
    def parse(cls, text: str, *, source: str = "manifest") -> Manifest:
        """Parse and validate the text of a manifest.

        Args:
            text: YAML.
            source: The file's name for messages.

        Raises:
            InvalidManifestError: It has faults; all of them are named.
        """
        if len(text) > MAX_BYTES:
            raise ManifestError(f"{source}: longer than {MAX_BYTES} bytes; this is not a manifest")
        try:
            root = strict_yaml.read(text)
        except StrictYamlError as error:
            place = f", column {error.column}" if error.column else ""
            fault = Fault("", error.line, f"not valid YAML{place}: {error.problem}")
            raise InvalidManifestError(source, [fault]) from error
        reader = _Reader()
        manifest = reader.manifest(root)
        if manifest is None or reader.faults:
            raise InvalidManifestError(source, reader.faults)
        return manifest


def _nearby(path: Path) -> str | None:
    """Name the manifests that stand where `path` was looked for."""
    if path.is_dir():
        names = sorted(str(p) for p in path.glob("*.yaml"))
        return f"name one of its files: {', '.join(names)}" if names else "name a file, not a folder"
    try:
        names = sorted(p.name for p in path.parent.glob("*.yaml"))
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.4) or names[:5]
    return f"{path.parent} has {', '.join(close)}" if close else None


def close_names(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` with the known name closest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


class _Reader:
    """Typed getters that note a fault with its key path and carry on, so that one run names them all."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        # Where an entry begins, and where an alias stands, for faults that show only once all entries are read.
        self._places: dict[tuple[str, ...], tuple[str, int]] = {}

    def fault(self, path: str, node: Node | int | None, message: str) -> None:
        line = node if isinstance(node, int) or node is None else node.line
        self.faults.append(Fault(path, line, message))

    def manifest(self, root: Node | None) -> Manifest | None:
        if not isinstance(root, Mapping):
            found = "an empty file" if root is None else root.described
            self.fault("", root, f"expected the keys {', '.join(TOP_KEYS)}; found {found}")
            return None
        if not self.version(root):
            # Another version may mean anything by its keys: one fault, not a list of guesses.
            return None
        self.keys(root, TOP_KEYS, "", lambda _: None)
        name = self.name(root)
        entries: list[Entry] = []
        for section, kind in SECTIONS.items():
            entries.extend(self.section(root.items.get(section), section, kind))
        if not entries and not self.faults:
            self.fault("", root, "expected at least one entry under tokenizers, models or datasets; found none")
        self.conflicts(entries)
        return Manifest(name=name, entries=tuple(entries))

    def version(self, root: Mapping) -> bool:
        node = root.items.get("version")
        if node is None:
            self.fault("version", root, f"missing; write version: {MANIFEST_VERSION}")
            return True
        if isinstance(node, Scalar) and node.type_name == "int" and re.fullmatch(r"[0-9]+", node.text):
            if int(node.text) == MANIFEST_VERSION:
                return True
            message = f"expected {MANIFEST_VERSION}, found {node.text}"
            self.fault("version", node, f"{message}; if a newer bundler wrote this file, upgrade this one")
            return False
        self.fault("version", node, f"expected the number {MANIFEST_VERSION}, found {node.described}")
        return True

    def name(self, root: Mapping) -> str:
        node = root.items.get("name")
        if node is None:
            self.fault("name", root, "missing; the bundle's file is called by it: name: my-bundle")
            return ""
        name = self.text(node, "name")
        if name is not None and not is_bundle_name(name):
            suggestion = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
            suggestion = re.sub(r"\.{2,}", ".", suggestion)[:100]
            tail = f"; for instance {suggestion}" if is_bundle_name(suggestion) else ""
            expected = "expected lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit"
            self.fault("name", node, f"{expected}; found {name!r}{tail}")
        return name or ""

    def keys(self, node: Mapping, known: tuple[str, ...], path: str, why: Callable[[str], str | None]) -> None:
        prefix = f"{path}." if path else ""
        for key, line in node.repeated:
            self.fault(f"{prefix}{key}", line, f"stands twice; the first is in line {node.key_lines[key]}")
        for key, line in node.odd_keys:
            self.fault(path, line, f"expected a key, found {key!r}; known keys: {', '.join(known)}")
        for key in node.items:
            if key in known:
                continue
            synonym = SYNONYMS.get(key.lower())
            if reason := why(key):
                tail = f" here; {reason}"
            elif synonym in known:
                tail = f"; did you mean {synonym}?"
            else:
                tail = close_names(key.lower(), known) or f"; known keys: {', '.join(known)}"
            self.fault(f"{prefix}{key}", node.key_lines[key], f"unknown key{tail}")

    def text(self, node: Node, path: str) -> str | None:
        """Return the node's text; a number, date or `no` that YAML made of it is a fault that says to quote it."""
        if isinstance(node, Scalar) and node.type_name == "str":
            return node.text
        message = f"expected text, found {node.described}"
        if isinstance(node, Scalar) and node.type_name != "null":
            message += f'; quote it: "{node.text}"'
        elif isinstance(node, Scalar):
            message += "; give a value or leave the key out"
        self.fault(path, node, message)
        return None

    def flag(self, node: Node | None, path: str) -> bool:
        if node is None:
            return False
        # `yes` and `on` are true to YAML 1.1 and text to YAML 1.2; a permission must not depend on the reader.
        if isinstance(node, Scalar) and node.type_name == "bool" and node.text in ("true", "false"):
            return node.text == "true"
        found = node.text if isinstance(node, Scalar) and node.text else node.described
        self.fault(path, node, f"expected true or false, unquoted; found {found}")
        return False

    def texts(self, node: Node | None, path: str, check: Callable[[str], str | None]) -> tuple[str, ...] | None:
        """Return a list of texts that pass `check`, which returns what is wrong with one or None."""
        if node is None:
            return None
        if not isinstance(node, Sequence):
            tail = f'; write ["{node.text}"]' if isinstance(node, Scalar) and node.text else ""
            self.fault(path, node, f"expected a list, found {node.described}{tail}")
            return None
        result: list[str] = []
        for index, item in enumerate(node.items):
            place = f"{path}[{index}]"
            text = self.text(item, place)
            if text is None:
                continue
            problem = check(text)
            if problem:
                self.fault(place, item, problem)
            elif text in result:
                self.fault(place, item, f"{text!r} stands in the list twice")
            else:
                result.append(text)
                self._places[path, text] = place, item.line
        return tuple(result)

    def section(self, node: Node | None, section: str, kind: RepoKind) -> Iterable[Entry]:
        # A section whose entries are all commented out is null to YAML, and simply empty to its writer.
        if node is None or (isinstance(node, Scalar) and node.type_name == "null"):
            return
        if not isinstance(node, Sequence):
            self.fault(section, node, f"expected a list of entries ('- repo_id: …'), found {node.described}")
            return
        for index, item in enumerate(node.items):
            path = f"{section}[{index}]"
            if isinstance(item, Mapping):
                yield self.entry(item, path, kind)
                continue
            text = item.text if isinstance(item, Scalar) else ""
            tail = f"; write - repo_id: {text}" if is_repo_id(text) else "; write - repo_id: namespace/name"
            self.fault(path, item, f"expected an entry with keys, found {item.described}{tail}")

    def entry(self, node: Mapping, path: str, kind: RepoKind) -> Entry:
        self._places[path,] = path, node.line
        self.keys(node, ENTRY_KEYS[kind], path, lambda key: ELSEWHERE.get((kind, key)))
        get = {key: value for key, value in node.items.items() if key in ENTRY_KEYS[kind]}.get
        repo_id = self.repo_id(get("repo_id"), path, kind, node)
        revision = "main"
        if (revision_node := get("revision")) is not None:
            revision = self.text(revision_node, f"{path}.revision") or revision
            if problem := revision_problem(revision):
                self.fault(f"{path}.revision", revision_node, problem)
        allow_patterns = self.texts(get("allow_patterns"), f"{path}.allow_patterns", pattern_problem)
        if allow_patterns == () and isinstance(allow := get("allow_patterns"), Sequence) and not allow.items:
            self.fault(
                f"{path}.allow_patterns", allow, "an empty list takes no file; leave it out for the default"
            )
        return Entry(
            kind=kind,
            repo_id=repo_id,
            revision=revision,
            aliases=self.texts(get("aliases"), f"{path}.aliases", repo_id_problem) or (),
            allow_patterns=allow_patterns,
            ignore_patterns=self.texts(get("ignore_patterns"), f"{path}.ignore_patterns", pattern_problem) or (),
            trust_remote_code=self.flag(get("trust_remote_code"), f"{path}.trust_remote_code"),
            allow_pickle=self.flag(get("allow_pickle"), f"{path}.allow_pickle"),
            configs=self.texts(get("configs"), f"{path}.configs", config_problem) or (),
            data_files=self.data_files(get("data_files"), f"{path}.data_files"),
            path=path,
        )

    def data_files(self, node: Node | None, path: str) -> tuple[str, ...]:
        """Return each choice of files as JSON; the order within one is kept, since `datasets` makes a name of it."""
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            tail = "; put a dash before each choice of files, as load_dataset(data_files=...) takes it"
            self.fault(path, node, f"expected a list, found {node.described}{tail}")
            return ()
        found: list[str] = []
        for index, item in enumerate(node.items):
            place = f"{path}[{index}]"
            value: object
            if isinstance(item, Mapping):
                self.keys(item, tuple(item.items), place, lambda _: None)
                value = {
                    split: self._file_choice(chosen, f"{place}.{split}") for split, chosen in item.items.items()
                }
            else:
                value = self._file_choice(item, place)
            text = json.dumps(value, ensure_ascii=False)
            if text in found:
                self.fault(place, item, "stands in the list twice")
            found.append(text)
        return tuple(found)

    def _file_choice(self, node: Node, path: str) -> str | list[str] | None:
        """Return a pattern or a list of patterns."""
        if isinstance(node, Sequence):
            return list(self.texts(node, path, pattern_problem) or ())
        text = self.text(node, path)
        if text is not None and (problem := pattern_problem(text)):
            self.fault(path, node, problem)
        return text

    def repo_id(self, node: Node | None, path: str, kind: RepoKind, entry: Mapping) -> str:
        if node is None:
            self.fault(f"{path}.repo_id", entry, "missing; write repo_id: namespace/name")
            return ""
        repo_id = self.text(node, f"{path}.repo_id")
        if repo_id is None:
            return ""
        if problem := repo_id_problem(repo_id):
            if kind != "dataset" and re.search(r"(^|/)datasets/", repo_id):
                problem += ", under datasets:"
            self.fault(f"{path}.repo_id", node, problem)
            return ""
        return repo_id

    def conflicts(self, entries: list[Entry]) -> None:
        """Check the entries against each other: every name must mean one repository."""
        seen: dict[tuple[RepoKind, str, str], Entry] = {}
        # The Hub's models and datasets are two name spaces; tokenizers live among the models.
        owners: dict[tuple[RepoType, str], Entry] = {}
        for entry in filter(lambda e: e.repo_id, entries):
            owners.setdefault((entry.repo_type, entry.repo_id), entry)
            first = seen.setdefault((entry.kind, entry.repo_id, entry.revision), entry)
            if first is not entry:
                self.fault(
                    f"{entry.path}.repo_id",
                    self._places[entry.path,][1],
                    f"{entry.repo_id} at {entry.revision} is {first.path} already; make them one entry",
                )
        taken: dict[tuple[RepoType, str], Entry] = {}
        for entry in filter(lambda e: e.repo_id, entries):
            for alias in entry.aliases:
                path, line = self._places[f"{entry.path}.aliases", alias]
                owner = owners.get((entry.repo_type, alias))
                other = taken.setdefault((entry.repo_type, alias), entry)
                if alias == entry.repo_id:
                    self.fault(path, line, f"{alias} is the entry's own repo_id; leave it out")
                elif owner is not None:
                    self.fault(path, line, f"{alias} is the repo_id of {owner.path}; one name, one repository")
                elif other.repo_id != entry.repo_id:
                    self.fault(
                        path, line, f"{alias} is an alias of {other.label} already; one name, one repository"
                    )
