"""The calls by which programs load from the Hub, and what each asks for.

A call is known by its name, which an import may have changed: `AutoModel.from_pretrained`, `load_dataset`,
`SentenceTransformer`. What a class loads is told by its name, too: tokenizers, processors and configurations need no
weights.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.draft.scan.values import Known, UnknownValueError, Values
from bundler.plan.manifest import Entry
from bundler.plan.manifest_rules import config_problem, data_dir_problem, data_files_problem, pattern_problem
from bundler.plan.names import RepoKind, is_repo_id, is_revision

_NO_WEIGHTS = re.compile(r"(Tokenizer|Processor|FeatureExtractor|Config|Scheduler)(Fast)?$")
_EMBEDDERS = frozenset({"SentenceTransformer", "CrossEncoder", "SparseEncoder"})
_FORMATS = frozenset(
    {
        *(
            "arrow",
            "audiofolder",
            "csv",
            "generator",
            "hdf5",
            "imagefolder",
            "json",
            "lance",
            "niftifolder",
            "pandas",
        ),
        *("parquet", "pdffolder", "spark", "sql", "text", "videofolder", "webdataset", "xml"),
    }
)
_TYPES: dict[object, RepoKind] = {
    None: "model",
    "model": "model",
    "dataset": "dataset",
    "space": "space",
    "kernel": "kernel",
}


@dataclass(frozen=True)
class Found:
    """A repo that a call asks for.

    Attributes:
        entry: What to have in a manifest for it.
        where: ``file:line``.
        call: The call, as it is written.
        origin: Where the name comes from, if it may be another when the program runs; else empty.
    """

    entry: Entry
    where: str
    call: str
    origin: str


@dataclass(frozen=True)
class Unknown:
    """A call of which the source does not tell what it asks for.

    Attributes:
        where: ``file:line``.
        call: The call, as it is written.
        why: What is not known.
    """

    where: str
    call: str
    why: str


class _Call:
    """One call: its arguments by name or place, as far as they are known."""

    def __init__(self, node: ast.Call, values: Values, imported: dict[str, str]) -> None:
        self._node = node
        self._values = values
        first, dot, rest = ast.unparse(node.func).partition(".")
        self.name = f"{imported.get(first, first)}{dot}{rest}"
        self.origin = ""

    def has(self, name: str, place: int | None = None) -> bool:
        return self._find(name, place) is not None

    def get(self, name: str, place: int | None = None) -> object:
        """Return an argument; None if it is not given.

        Raises:
            UnknownValueError: It is not known.
        """
        node = self._find(name, place)
        known = Known(None) if node is None else self._values.resolve(node)
        self.origin = self.origin or known.origin
        return known.value

    def text(self, name: str, place: int | None = None) -> str | None:
        """Return an argument that must be text."""
        value = self.get(name, place)
        if value is not None and not isinstance(value, str):
            raise UnknownValueError(f"{name}={value!r}")
        return value

    def _find(self, name: str, place: int | None) -> ast.expr | None:
        for keyword in self._node.keywords:
            if keyword.arg == name:
                return keyword.value
        arguments = self._node.args
        if (
            place is None
            or place >= len(arguments)
            or any(isinstance(a, ast.Starred) for a in arguments[: place + 1])
        ):
            return None
        return arguments[place]


def find_calls(tree: ast.AST, file: str) -> Iterator[Found | Unknown]:
    """Yield what the calls of a file ask for, in the order of their lines.

    Args:
        tree: Syntax tree of the file.
        file: Its name, for people.
    """
    values = Values(tree)
    imported = {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        call = _Call(node, values, imported)
        where, text = f"{file}:{node.lineno}", _shorten(ast.unparse(node))
        try:
            for entry in _read(call):
                yield Found(entry, where, text, call.origin)
        except UnknownValueError as error:
            yield Unknown(where, text, f"the value of {error} is known only when it runs")
        except _OtherKindError as error:
            yield Unknown(where, text, str(error))


class _OtherKindError(Exception):
    """A call asks for what a manifest has no entries for, or leaves the choice to a library."""


def _read(call: _Call) -> Iterator[Entry]:
    last = call.name.rpartition(".")[2]
    if last == "from_pretrained":
        yield from _read_from_pretrained(call)
    elif last == "pipeline":
        yield from _read_pipeline(call)
    elif last in _EMBEDDERS:
        yield from _model(call, call.text("model_name_or_path", 0))
    elif last in ("hf_hub_download", "snapshot_download"):
        yield from _read_download(call, last)
    elif last in ("load_dataset", "load_dataset_builder"):
        yield from _read_dataset(call)
    elif call.name == "evaluate.load":
        yield from _read_metric(call)
    elif last == "get_kernel":
        yield from _read_kernel(call)


def _read_from_pretrained(call: _Call) -> Iterator[Entry]:
    owner = call.name.rpartition(".")[0].rpartition(".")[2]
    # An adapter's base is an object, and stands first.
    place = 1 if owner.startswith("Peft") and call.has("model_id", 1) else 0
    key = "model_id" if place else "pretrained_model_name_or_path"
    kind: RepoKind = "tokenizer" if _NO_WEIGHTS.search(owner) else "model"
    yield from _model(call, call.text(key, place), kind)


def _read_pipeline(call: _Call) -> Iterator[Entry]:
    if not call.has("model", 1):
        if call.has("task", 0):
            raise _OtherKindError("it names no model, and the library has a default for the task: name it")
        return
    yield from _model(call, call.text("model", 1))
    if call.has("tokenizer"):
        yield from _model(call, call.text("tokenizer"), "tokenizer")


def _read_download(call: _Call, function: str) -> Iterator[Entry]:
    repo_type = call.get("repo_type")
    if repo_type not in _TYPES:
        raise _OtherKindError(f"it loads a {repo_type}: no manifest has entries for repos of this type")
    kind = _TYPES[repo_type]
    patterns: list[str] = []
    if function == "hf_hub_download":
        file, folder = call.text("filename", 1), call.text("subfolder")
        patterns = [f"{folder}/{file}" if folder else file] if file else []
    elif call.has("allow_patterns"):
        given = call.get("allow_patterns")
        patterns = (
            [given] if isinstance(given, str) else [str(one) for one in given] if isinstance(given, list) else []
        )
    fitting = tuple(pattern for pattern in patterns if not pattern_problem(pattern))
    for entry in _model(call, call.text("repo_id", 0), kind):
        yield replace(entry, allow_patterns=fitting or None)


def _read_dataset(call: _Call) -> Iterator[Entry]:
    path = call.text("path", 0)
    if path in _FORMATS:
        return
    config, folder = call.text("name", 1), call.text("data_dir", 2)
    files = call.get("data_files", 3)
    choice = json.dumps(files, ensure_ascii=False) if files is not None else None
    for entry in _model(call, path, "dataset"):
        if choice is not None and data_files_problem(choice):
            raise UnknownValueError("data_files")
        yield replace(
            entry,
            configs=(config,)
            if config and not config_problem(config) and choice is None and folder is None
            else (),
            data_files=(choice,) if choice is not None else (),
            data_dirs=(folder,) if folder and not data_dir_problem(folder) else (),
        )


def _read_metric(call: _Call) -> Iterator[Entry]:
    """Yield the space of a metric; a plain name is one of the library's own, by the kind that is given."""
    name = call.text("path", 0)
    if name and "/" not in name:
        name = f"evaluate-{call.text('module_type') or 'metric'}/{name}"
    yield from _model(call, name, "space")


def _read_kernel(call: _Call) -> Iterator[Entry]:
    """Yield a kernel: version N of it is the branch ``vN``."""
    version = call.get("version")
    if version is not None and not isinstance(version, int):
        raise UnknownValueError(f"version={version!r}")
    for entry in _model(call, call.text("repo_id", 0), "kernel"):
        yield entry if version is None else replace(entry, revision=f"v{version}")


def _model(call: _Call, name: str | None, kind: RepoKind = "model") -> Iterator[Entry]:
    """Yield the entry for a name, unless it is that of a folder of this machine."""
    if name is None or not is_repo_id(name) or Path(name).exists():
        return
    revision = call.text("revision") or "main"
    if not is_revision(revision):
        raise UnknownValueError("revision")
    trusted = (
        kind in ("tokenizer", "model") and call.has("trust_remote_code") and call.get("trust_remote_code") is True
    )
    yield Entry(kind=kind, repo_id=name, revision=revision, trust_remote_code=trusted)


def _shorten(text: str, most: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"
