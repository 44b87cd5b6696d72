"""Load sentence-transformers models, with all of their modules, in the proof's child process."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

from bundler.hub.selection.remote_code import MODULES, ROUTER, code_references, named_classes
from bundler.make.proof.code import read_naming_files
from bundler.make.proof.entries import ContradictionFault, LoadedEntry, LoadingFault, Outcome, try_call
from bundler.text.wording import name_some, size

# Their weights are read, because each module has a loader of its own. Larger ones would take longer than the download.
_MOST_READ_BYTES = 2_000_000_000
_SETTINGS = "config_sentence_transformers.json"
# What `model_type` in the settings may name; the library has a class of each name.
_CLASSES = ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder", "CrossEncoder")


def prove_modules(entry: LoadedEntry, outcome: Outcome) -> None:
    """Check that what `modules.json` lists is there, and load it by each name as a program does.

    Raises:
        LoadingFault: A module is missing, or does not load.
        ContradictionFault: `modules.json` is not what the library reads.
    """
    if MODULES not in entry.paths:
        return
    try:
        modules = json.loads((entry.snapshot / MODULES).read_bytes())
        folders = [(str(module["path"]), str(module["type"])) for module in modules]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ContradictionFault(f"{MODULES} is not a list of sentence-transformers modules: {error!r}") from error
    for folder, kind in folders:
        # Normalize has no settings, and often no folder. The module in the root folder is the transformers model. A
        # module of other makers may have settings of another name.
        is_own = not kind.startswith("sentence_transformers.") and "." in kind and entry.repo.trust_remote_code
        has_settings = bool(folder) and not is_own and not kind.endswith((".Normalize", ".Router"))
        if has_settings and f"{folder}/config.json" not in entry.paths:
            raise LoadingFault(f"{MODULES} names {folder} ({kind}), but {folder}/config.json is missing")
    outcome.proven.append(f"all sentence-transformers modules are there ({len(folders)})")
    if reason := _find_obstacle(entry):
        outcome.notes.append(f"not tried: SentenceTransformer({entry.repo.repo_id!r}): {reason}")
        return
    _load(entry, outcome)


def _find_obstacle(entry: LoadedEntry) -> str | None:
    """Return why the model is not loaded; None if it is."""
    files = read_naming_files(entry)
    named = sorted(
        {
            one.repo_id or one.module
            for one in code_references(files, entry.paths | {*_own_files(files)})
            if one.source.rpartition("/")[2] in (MODULES, ROUTER)
        }
    )
    if named and not entry.repo.trust_remote_code:
        return f"{MODULES} names Python ({name_some(named)}), and trust_remote_code is not set"
    if importlib.util.find_spec("sentence_transformers") is None:
        return "sentence-transformers is not installed here"
    if entry.repo.size_bytes > _MOST_READ_BYTES:
        return f"it would read {size(entry.repo.size_bytes)}, more than {size(_MOST_READ_BYTES)}"
    return None


def _own_files(files: dict[str, bytes]) -> list[str]:
    """Return the files that modules of other makers would be in, which an entry without trust does not have."""
    names = [name for source, content in files.items() for name in named_classes(source, content)]
    return [f"{name.split('.')[0]}.py" for name in names if "--" not in name]


def _load(entry: LoadedEntry, outcome: Outcome) -> None:
    import sentence_transformers

    kind = entry.json(_SETTINGS).get("model_type")
    class_name = kind if kind in _CLASSES and hasattr(sentence_transformers, kind) else _CLASSES[0]
    model_class: Any = getattr(sentence_transformers, class_name)
    for name in entry.names:
        try:
            try_call(f"{class_name}({name!r})", model_class, name, device="cpu", **entry.options)
        except ImportError as error:
            outcome.notes.append(f"not tried: {class_name}({name!r}): {' '.join(str(error).split())[:200]}")
            return
    outcome.proven.append(f"{class_name} loads as {' and '.join(entry.names)}")
