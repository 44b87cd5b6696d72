"""Find the Python code that a repository's JSON files name.

Who names Python, and in which file:

* transformers: `auto_map` and `custom_pipelines` in `config.json` and its siblings, also of a part of a model. Values
  are such as ``modeling_x.XModel``, or ``org/other--modeling_x.XModel`` for code that lives in another repository;
* sentence-transformers: the `type` of a module in `modules.json`, and the `types` of a router, in the same two forms. A
  type of an installed package (``package.module.Class``) has other dots, or no file in the repository;
* diffusers: a part of a pipeline in `model_index.json` whose library is a file beside it;
* nobody, for `custom_generate/generate.py`, which transformers looks for.

The form with another repository often fails offline, because that must be in the bundle too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bundler.errors import FormatError
from bundler.files.paths import check_relative_path
from bundler.plan.manifest import Entry
from bundler.plan.names import is_repo_id

# Where transformers looks for `auto_map`.
CONFIG_FILES = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
MODULES, ROUTER, PIPELINE = "modules.json", "router_config.json", "model_index.json"
GENERATION_CODE = "custom_generate/generate.py"
# The files in the root of a repository that may name Python.
NAMING_FILES = (*CONFIG_FILES, MODULES, ROUTER, PIPELINE)
_OWN_MODULES = "sentence_transformers."
# A model in a model in a processor; more would be no configuration.
_MOST_DEPTH = 4


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


def code_references(configs: Mapping[str, bytes], paths: Collection[str] = ()) -> list[CodeReference]:
    """Return the classes that JSON files name; a file that is not JSON names none.

    Args:
        configs: Path -> content.
        paths: All files of the repository.
    """
    found: set[tuple[str, str | None, str]] = set()
    for source, content in configs.items():
        for name in named_classes(source, content):
            reference = _parse_reference(source, name)
            # What is no file of the repository is an installed package.
            if reference[1] or reference[2] in paths or not _lists_modules(source):
                found.add(reference)
    if PIPELINE in configs:
        found.update((PIPELINE, None, path) for path in _parts_with_code(_parse(configs[PIPELINE]), paths))
    if GENERATION_CODE in paths:
        found.add((GENERATION_CODE, None, GENERATION_CODE))
    return [CodeReference(*row) for row in sorted(found, key=lambda row: (row[0], row[1] or "", row[2]))]


def other_repositories(references: Iterable[CodeReference]) -> dict[str, list[str]]:
    """Return the other repositories that have code, each with the files that name it, all sorted."""
    found: dict[str, set[str]] = {}
    for reference in references:
        if reference.repo_id is not None and is_repo_id(reference.repo_id):
            found.setdefault(reference.repo_id, set()).add(reference.source)
    return {name: sorted(found[name]) for name in sorted(found)}


def entry_for_code(repo_id: str) -> str:
    """Return what to add to `models` for the Python of a repository."""
    return f'{{repo_id: {repo_id}, trust_remote_code: true, allow_patterns: ["*.py"]}}'


def code_warnings(
    entry: Entry, references: Iterable[CodeReference], entries: Iterable[Entry], *, carried: Collection[str] = ()
) -> list[str]:
    """Return warnings about Python code that an entry may need to load offline.

    Whether the code is needed is not known here, because transformers prefers its own class if it has one. The proof
    after a fetch finds out.

    Args:
        entry: The entry whose files name code.
        references: What they name.
        entries: All entries of the manifest.
        carried: Other repositories whose code is carried without an entry.
    """
    references = list(references)
    warnings = []
    own = sorted({r.module for r in references if r.repo_id is None})
    if own and not entry.trust_remote_code:
        warnings.append(
            f"{entry.label}: has Python code of its own ({', '.join(own)}), which is left out; if it does not load "
            "without it, and you trust its authors, set trust_remote_code: true"
        )
    trusted = {*carried, *(e.repo_id for e in entries if e.trust_remote_code)}
    trusted |= {alias for e in entries if e.trust_remote_code for alias in e.aliases}
    for other, sources in other_repositories(references).items():
        if other not in trusted:
            warnings.append(
                f"{entry.label}: {', '.join(sources)} names code of another repository, {other}; to load it offline "
                f"add to models: - {entry_for_code(other)}"
                + ("" if entry.trust_remote_code else ", and set trust_remote_code: true here")
            )
    return warnings


def named_classes(source: str, content: bytes) -> list[str]:
    """Return the classes of remote code that a JSON file names, as written there: ``modeling_x.XModel``, sorted.

    Args:
        source: Its path, which tells what kind of file it is.
        content: Its content; what is not JSON names none.
    """
    config = _parse(content)
    kind = source.rpartition("/")[2]
    if kind == MODULES:
        rows = config if isinstance(config, list) else []
        types = [row.get("type") for row in rows if isinstance(row, dict)]
    elif kind == ROUTER:
        mapping = config.get("types") if isinstance(config, dict) else None
        types = list(mapping.values()) if isinstance(mapping, dict) else []
    else:
        return sorted(set(_list_auto_classes(config)))
    names = {name for name in types if isinstance(name, str) and not name.startswith(_OWN_MODULES)}
    return sorted(name for name in names if name.rpartition("--")[2].count(".") == 1)


def deeper_naming_files(configs: Mapping[str, bytes], paths: Collection[str]) -> list[str]:
    """Return the files in folders of sentence-transformers modules that may name Python, and exist."""
    folders = module_folders(configs.get(MODULES, b""))
    for source in [ROUTER, *(f"{folder}/{ROUTER}" for folder in folders)]:
        config = _parse(configs.get(source, b""))
        types = config.get("types") if isinstance(config, dict) else None
        above = source.rpartition("/")[0]
        names = [name for name in types if isinstance(name, str)] if isinstance(types, dict) else []
        folders += [f"{above}/{name}" if above else name for name in names if _is_plain(name)]
    files = [f"{folder}/{name}" for folder in dict.fromkeys(folders) for name in (*CONFIG_FILES, ROUTER)]
    return [path for path in files if path in paths and path not in configs]


def module_folders(modules_json: bytes) -> list[str]:
    """Return the folders that the `modules.json` of a sentence-transformers model names."""
    modules = _parse(modules_json)
    rows = modules if isinstance(modules, list) else []
    paths = [row["path"] for row in rows if isinstance(row, dict) and isinstance(row.get("path"), str)]
    return [path for path in paths if _is_plain(path)]


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _lists_modules(source: str) -> bool:
    return source.rpartition("/")[2] in (MODULES, ROUTER)


def _parts_with_code(index: Any, paths: Collection[str]) -> Iterator[str]:
    """Yield the Python of a diffusers pipeline: of its own class, and of parts whose library is a file beside them."""
    for part, value in index.items() if isinstance(index, dict) else ():
        if isinstance(value, list) and value and isinstance(value[0], str):
            path = f"{value[0]}.py" if part == "_class_name" else f"{part}/{value[0]}.py"
            if path in paths:
                yield path


def _list_auto_classes(config: Any, depth: int = 0) -> Iterator[str]:
    if not isinstance(config, dict) or depth > _MOST_DEPTH:
        return
    yield from _list_strings(config.get("auto_map"))
    pipelines = config.get("custom_pipelines")
    for pipeline in pipelines.values() if isinstance(pipelines, dict) else ():
        if isinstance(pipeline, dict) and isinstance(pipeline.get("impl"), str):
            yield pipeline["impl"]
    for part in config.values():
        yield from _list_auto_classes(part, depth + 1)


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
