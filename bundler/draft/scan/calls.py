"""The calls by which programs load from the Hub, and what each asks for; for those that load other files: `file_calls`.

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

from bundler.draft.scan.call import Call, OtherKindError
from bundler.draft.scan.file_calls import read_file_call
from bundler.draft.scan.values import UnknownValueError, Values
from bundler.plan.file_entry import FileEntry
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
    """A repo, or a file of another host, that a call asks for.

    Attributes:
        entry: What to have in a manifest for it.
        where: ``file:line``.
        call: The call, as it is written.
        origin: Where the name comes from, if it may be another when the program runs; else empty.
    """

    entry: Entry | FileEntry
    where: str
    call: str
    origin: str

    @property
    def name(self) -> str:
        """The repo's id, or the file's address."""
        return self.entry.repo_id if isinstance(self.entry, Entry) else self.entry.url


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


def find_calls(tree: ast.AST, file: str) -> Iterator[Found | Unknown]:
    """Yield what the calls of a file ask for, in the order of their lines.

    Args:
        tree: Syntax tree of the file.
        file: Its name, for people.
    """
    values = Values(tree)
    imported = dict(_list_imports(tree))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        call = Call(node, values, imported)
        where, text = f"{file}:{node.lineno}", _shorten(ast.unparse(node))
        try:
            for entry in _read(call):
                yield Found(entry, where, text, call.origin)
        except UnknownValueError as error:
            yield Unknown(where, text, f"the value of {error} is known only when it runs")
        except OtherKindError as error:
            yield Unknown(where, text, str(error))


def _list_imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield names that stand for others in a file, and which these are."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}" if node.module else alias.name
        elif isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)


def _read(call: Call) -> Iterator[Entry | FileEntry]:
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
    else:
        yield from read_file_call(call)


def _read_from_pretrained(call: Call) -> Iterator[Entry]:
    owner = call.name.rpartition(".")[0].rpartition(".")[2]
    # An adapter's base is an object, and stands first.
    place = 1 if owner.startswith("Peft") and call.has("model_id", 1) else 0
    key = "model_id" if place else "pretrained_model_name_or_path"
    kind: RepoKind = "tokenizer" if _NO_WEIGHTS.search(owner) else "model"
    yield from _model(call, call.text(key, place), kind)


def _read_pipeline(call: Call) -> Iterator[Entry]:
    if not call.has("model", 1):
        if call.has("task", 0):
            raise OtherKindError("it names no model, and the library has a default for the task: name it")
        return
    yield from _model(call, call.text("model", 1))
    if call.has("tokenizer"):
        yield from _model(call, call.text("tokenizer"), "tokenizer")


def _read_download(call: Call, function: str) -> Iterator[Entry]:
    repo_type = call.get("repo_type")
    if repo_type not in _TYPES:
        raise OtherKindError(f"it loads a {repo_type}: no manifest has entries for repos of this type")
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


def _read_dataset(call: Call) -> Iterator[Entry]:
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


def _read_metric(call: Call) -> Iterator[Entry]:
    """Yield the space of a metric; a plain name is one of the library's own, by the kind that is given."""
    name = call.text("path", 0)
    if name and "/" not in name:
        name = f"evaluate-{call.text('module_type') or 'metric'}/{name}"
    yield from _model(call, name, "space")


def _read_kernel(call: Call) -> Iterator[Entry]:
    """Yield a kernel: version N of it is the branch ``vN``."""
    version = call.get("version")
    if version is not None and not isinstance(version, int):
        raise UnknownValueError(f"version={version!r}")
    for entry in _model(call, call.text("repo_id", 0), "kernel"):
        yield entry if version is None else replace(entry, revision=f"v{version}")


def _model(call: Call, name: str | None, kind: RepoKind = "model") -> Iterator[Entry]:
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
