"""Turn what was read of a repo into an entry of a manifest that takes it.

Rule book:

* an entry as a person would write it is tried first: a tokenizer, a model, a dataset, with the default choice of files.
  It must take all that was read, and no weights or data that were not;
* permissions follow from what was read: Python of a model repo, pickles;
* otherwise `allow_patterns` names what was read; all files of a folder, and files numbered alike, share a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from bundler.draft.manifest_text import merge_entry
from bundler.draft.record.gather import RepoUse
from bundler.hub.selection.files import SelectionError, matches, select
from bundler.hub.selection.pickle_names import is_pickle
from bundler.hub.selection.weights import WEIGHT_SUFFIXES, left_out
from bundler.plan.manifest import Entry
from bundler.plan.manifest_rules import config_problem, data_dir_problem, data_files_problem
from bundler.plan.names import RepoKind

# So many files are worth a pattern of their own.
_FEW = 3


def make_entry(use: RepoUse, paths: Sequence[str]) -> Entry:
    """Return the entry that takes what was read.

    Args:
        use: The repo.
        paths: All files of its commit.
    """
    needed = use.files & set(paths)
    repo_type: str = use.repo_type
    if repo_type == "dataset":
        return _make_dataset(use, paths, needed)
    if repo_type != "model":
        # Of another type a part may be of no use: one build of a kernel, one module of several.
        entry = _begin(use, use.repo_type)
        whole = _takes(entry, paths, needed, exactly=False)
        return entry if whole else replace(entry, allow_patterns=name_files(needed, paths))
    trusted = use.trusted or any(path.endswith(".py") for path in needed)
    pickled = any(is_pickle(path) for path in needed)
    tokenizer = replace(_begin(use, "tokenizer"), trust_remote_code=trusted)
    model = replace(_begin(use, "model"), trust_remote_code=trusted, allow_pickle=pickled)
    for entry in (tokenizer, model):
        if needed and _takes(entry, paths, needed, exactly=True):
            return entry
    has_weights = any(PurePosixPath(path).suffix in WEIGHT_SUFFIXES for path in needed)
    # A config alone, as AutoConfig reads it: a model with one is proven to have weights.
    last = tokenizer if "config.json" in needed and not has_weights else model
    return replace(last, allow_patterns=name_files(needed, paths)) if needed else model


def widen_entry(entry: Entry, wanted: Entry, use: RepoUse, paths: Sequence[str]) -> Entry:
    """Return an entry of a manifest so that it takes what was read, too.

    Args:
        entry: In the manifest.
        wanted: What `make_entry` returned.
        use: The repo.
        paths: All files of its commit.
    """
    needed = use.files & set(paths)
    wider = merge_entry(entry, replace(wanted, allow_patterns=None, trust_remote_code=False, allow_pickle=False))
    permitted = replace(
        wider,
        trust_remote_code=wider.trust_remote_code or wanted.trust_remote_code,
        allow_pickle=wider.allow_pickle or wanted.allow_pickle,
    )
    for tried in (wider, permitted):
        if _takes(tried, paths, needed, exactly=False):
            return tried
    there = _selected(permitted, paths)
    before = name_files(there, paths) if permitted.allow_patterns is None else permitted.allow_patterns
    return replace(permitted, allow_patterns=(*before, *name_files(needed - there, paths)))


def _begin(use: RepoUse, kind: RepoKind) -> Entry:
    return Entry(kind=kind, repo_id=use.repo_id, revision=use.revision, aliases=use.aliases)


def _make_dataset(use: RepoUse, paths: Sequence[str], needed: frozenset[str]) -> Entry:
    entry = _begin(use, "dataset")
    configs, files, folders = [], [], []
    for asked in use.datasets:
        if asked.data_files is not None and not data_files_problem(asked.data_files):
            files.append(asked.data_files)
        if asked.data_dir is not None and not data_dir_problem(asked.data_dir):
            folders.append(asked.data_dir)
        if asked.data_files is None and asked.data_dir is None and not config_problem(asked.config):
            configs.append(asked.config)
    entry = replace(
        entry,
        configs=tuple(dict.fromkeys(configs)),
        data_files=tuple(dict.fromkeys(files)),
        data_dirs=tuple(dict.fromkeys(folders)),
    )
    data = {path for path in needed if path not in _selected(replace(entry, allow_patterns=("README.md",)), paths)}
    if not data or _takes(entry, paths, needed, exactly=True):
        return entry
    return replace(entry, allow_patterns=name_files(data, paths))


def _selected(entry: Entry, paths: Sequence[str]) -> set[str]:
    try:
        return set(select(entry, paths).paths)
    except SelectionError:
        return set()


def _takes(entry: Entry, paths: Sequence[str], needed: Collection[str], *, exactly: bool) -> bool:
    """Tell whether an entry takes what is needed and, `exactly`, no weights or data besides."""
    chosen = _selected(entry, paths)
    if not chosen or not set(needed) <= chosen:
        return False
    if not exactly:
        return True
    if entry.kind == "dataset":
        return not any(_is_data(path) for path in chosen - set(needed))
    return not left_out(sorted(chosen), set(needed))


def _is_data(path: str) -> bool:
    return not re.fullmatch(r"(?:.*/)?(?:README|LICEN[CS]E|NOTICE|USE_POLICY)[^/]*|\..*", path, re.IGNORECASE)


def name_files(needed: Iterable[str], paths: Sequence[str]) -> tuple[str, ...]:
    """Return patterns that match these files of a repo and no others, as few as can be read.

    Args:
        needed: The files.
        paths: All files of the repo.
    """
    left, patterns = set(needed), []
    for folder in sorted({str(parent) for path in left for parent in PurePosixPath(path).parents} - {"."}):
        below = {path for path in paths if path.startswith(f"{folder}/")}
        if len(below & left) > _FEW and below <= left:
            patterns.append(f"{_escape(folder)}/")
            left -= below
    numbered: dict[str, set[str]] = {}
    for path in sorted(left):
        numbered.setdefault(re.sub(r"[0-9]+", "*", _escape(path)), set()).add(path)
    for pattern, group in numbered.items():
        alike = {path for path in paths if matches(path, [pattern])}
        patterns += [pattern] if len(group) > _FEW and alike <= group else [_escape(path) for path in group]
    return tuple(sorted(patterns))


def _escape(path: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", path)
