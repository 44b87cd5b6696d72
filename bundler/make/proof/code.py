"""Import the Python that an entry's files name, in this repository or another; in the proof's child process.

Each class is imported by the call that the libraries themselves make. A class of an installed package that this machine
lacks is a note; a file or a repository that the bundle lacks is a fault, with the line to add.
"""

from __future__ import annotations

import importlib.util

from bundler.hub.selection.remote_code import (
    GENERATION_CODE,
    MODULES,
    NAMING_FILES,
    PIPELINE,
    ROUTER,
    code_references,
    deeper_naming_files,
    entry_for_code,
    named_classes,
)
from bundler.make.proof.entries import LoadedEntry, LoadingFault, MissingPieceFault, Outcome, try_call
from bundler.plan.names import repo_folder
from bundler.text.wording import name_some


def read_naming_files(entry: LoadedEntry) -> dict[str, bytes]:
    """Return the entry's files that may name Python: path -> content."""
    found: dict[str, bytes] = {}
    paths = [path for path in NAMING_FILES if path in entry.paths]
    while paths:
        found |= {path: (entry.snapshot / path).read_bytes() for path in paths}
        paths = deeper_naming_files(found, entry.paths)
    return found


def prove_code(entry: LoadedEntry, outcome: Outcome) -> None:
    """Import every class of remote code that a trusted entry names, and its generation code.

    Raises:
        LoadingFault: A class cannot be imported.
        MissingPieceFault: Its file, or the repository that has it, is not in the bundle.
    """
    if not entry.repo.trust_remote_code:
        return
    files = read_naming_files(entry)
    sources = {name: source for source, content in files.items() for name in named_classes(source, content)}
    loaded = [name for name, source in sorted(sources.items()) if _is_imported(entry, name, source, outcome)]
    if loaded:
        outcome.proven.append(f"its own Python is imported ({len(loaded)} of {len(sources)} classes)")
    if GENERATION_CODE in entry.paths:
        _prove_generation_code(entry, outcome)
    parts = sorted({one.module for one in code_references(files, entry.paths) if one.source == PIPELINE})
    if parts:
        outcome.notes.append(f"not tried: the Python of a diffusers pipeline ({name_some(parts)})")


def _is_imported(entry: LoadedEntry, name: str, source: str, outcome: Outcome) -> bool:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    other, separator, plain = name.rpartition("--")
    module = plain.split(".")[0]
    if separator and not _has_repo(entry, other):
        raise MissingPieceFault(
            f"{source} names {name}, and the bundle has no {other}",
            line=f"add to models: - {entry_for_code(other)}",
        )
    if not separator and f"{module}.py" not in entry.paths:
        is_package = source.rpartition("/")[2] in (MODULES, ROUTER) and importlib.util.find_spec(module)
        if is_package:
            return False
        raise MissingPieceFault(
            f"{source} names {name}, and the bundle has no {module}.py of {entry.repo.repo_id}",
            line=f'{entry.repo.repo_id}: "*.py" among its allow_patterns, or no pattern of its ignore_patterns that '
            f"matches {module}.py; or, if {module} is a package, install it here",
        )
    try:
        try_call(
            f"importing {name}",
            get_class_from_dynamic_module,
            name,
            entry.repo.repo_id,
            revision=entry.repo.revision,
        )
    except ImportError as error:
        # For example a package for GPUs, which this machine may not have.
        outcome.notes.append(f"{name} not imported: {' '.join(str(error).split())[:200]}")
        return False
    return True


def _has_repo(entry: LoadedEntry, repo_id: str) -> bool:
    return (entry.snapshot.parents[2] / repo_folder(repo_id, "model")).is_dir()


def _prove_generation_code(entry: LoadedEntry, outcome: Outcome) -> None:
    from transformers import GenerationMixin

    for name in entry.names:
        try:
            try_call(
                f"load_custom_generate({name!r})",
                GenerationMixin.load_custom_generate,
                None,
                name,
                trust_remote_code=True,
                revision=entry.repo.revision,
            )
        except ImportError as error:
            outcome.notes.append(f"{GENERATION_CODE} not imported: {' '.join(str(error).split())[:200]}")
            return
        except LoadingFault as error:
            raise LoadingFault(f"{GENERATION_CODE}: {error}") from error
    outcome.proven.append(f"its generation code is imported as {' and '.join(entry.names)}")
