"""Find the Python code that a repository's JSON files name.

transformers finds custom classes through `auto_map` (and `custom_pipelines`) in `config.json` and its siblings: values
such as ``modeling_x.XModel``, or ``org/other--modeling_x.XModel`` for code that lives in another repository. That
second form often fails offline, because the other repository must be in the bundle too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bundler.errors import FormatError
from bundler.files.paths import check_relative_path
from bundler.plan.manifest import Entry

# Where transformers looks for `auto_map`.
CONFIG_FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, order=True)
class CodeReference:
    """One class that a configuration names.

    Attributes:
        source: Path of the JSON file that names it.
        repo_id: The other repository that has its code; None for this one.
        module: Name of the file with its code.
    """

    source: str
    repo_id: str | None
    module: str


def code_references(configs: Mapping[str, bytes]) -> list[CodeReference]:
    """Return the classes that JSON files name; a file that is not JSON names none.

    Args:
        configs: Path -> content.
    """
    found: set[tuple[str, str | None, str]] = set()
    for source, content in configs.items():
        try:
            config = json.loads(content)
        except (ValueError, RecursionError):
            continue
        if not isinstance(config, dict):
            continue
        for value in class_names(config):
            found.add(_parse_reference(source, value))
        pipelines = config.get("custom_pipelines")
        for pipeline in pipelines.values() if isinstance(pipelines, dict) else ():
            if isinstance(pipeline, dict) and isinstance(pipeline.get("impl"), str):
                found.add(_parse_reference(source, pipeline["impl"]))
    return [CodeReference(*row) for row in sorted(found, key=lambda row: (row[0], row[1] or "", row[2]))]


def code_warnings(entry: Entry, references: Iterable[CodeReference], entries: Iterable[Entry]) -> list[str]:
    """Return warnings about Python code that an entry may need to load offline.

    Whether the code is needed is not known here, because transformers prefers its own class if it has one. The proof
    after a fetch finds out.
    """
    warnings = []
    own = sorted({r.module for r in references if r.repo_id is None})
    if own and not entry.trust_remote_code:
        warnings.append(
            f"{entry.label}: has Python code of its own ({', '.join(own)}), which is left out; if it does not load "
            "without it, and you trust its authors, set trust_remote_code: true"
        )
    carried = {e.repo_id for e in entries if e.trust_remote_code}
    carried |= {alias for e in entries if e.trust_remote_code for alias in e.aliases}
    for other in sorted({r.repo_id for r in references if r.repo_id is not None and r.repo_id not in carried}):
        sources = ", ".join(sorted({r.source for r in references if r.repo_id == other}))
        warnings.append(
            f"{entry.label}: {sources} names code of another repository, {other}; to load it offline add {other} to "
            'models with trust_remote_code: true and allow_patterns: ["*.py"]'
            + ("" if entry.trust_remote_code else ", and set trust_remote_code: true here")
        )
    return warnings


def class_names(config: Mapping[str, Any]) -> list[str]:
    """Return the classes in an `auto_map`, as written there: ``modeling_x.XModel``, ``org/other--…``."""
    return sorted(set(_list_strings(config.get("auto_map"))))


def module_folders(modules_json: bytes) -> list[str]:
    """Return the folders that the `modules.json` of a sentence-transformers model names."""
    try:
        modules = json.loads(modules_json)
    except (ValueError, RecursionError):
        return []
    rows = modules if isinstance(modules, list) else []
    paths = [row["path"] for row in rows if isinstance(row, dict) and isinstance(row.get("path"), str)]
    return [path for path in paths if _is_plain(path)]


def _is_plain(path: str) -> bool:
    # The value is untrusted, and becomes part of a file name in the cache.
    try:
        check_relative_path(path)
    except FormatError:
        return False
    return True


def _parse_reference(source: str, value: str) -> tuple[str, str | None, str]:
    repo_id, separator, name = value.rpartition("--")
    return source, repo_id if separator else None, f"{name.split('.')[0]}.py"


def _list_strings(value: Any) -> Iterator[str]:
    # An auto class maps to a class name; for tokenizers to a list of the slow and the fast class, each perhaps null.
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    for item in values:
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            yield from (name for name in item if isinstance(name, str))
