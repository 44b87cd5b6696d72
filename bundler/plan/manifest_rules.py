"""What a manifest may say, key by key and value by value, and what to write instead.

Each check returns what is wrong with one value, in words for the person who typed it, or None. How the values
stand in the file, and how they get along with each other, is `bundler.plan.manifest`'s part.
"""

from __future__ import annotations

import re

from bundler.plan.names import RepoKind, is_commit, is_repo_id, is_revision

SECTIONS: dict[str, RepoKind] = {"tokenizers": "tokenizer", "models": "model", "datasets": "dataset"}

_COMMON_KEYS = ("repo_id", "revision", "aliases", "allow_patterns", "ignore_patterns")
ENTRY_KEYS: dict[RepoKind, tuple[str, ...]] = {
    "tokenizer": (*_COMMON_KEYS, "trust_remote_code"),
    "model": (*_COMMON_KEYS, "trust_remote_code", "allow_pickle"),
    "dataset": (*_COMMON_KEYS, "configs", "data_files"),
}
TOP_KEYS = ("version", "name", *SECTIONS)

# Why a key that exists elsewhere is not known in a section.
ELSEWHERE = {
    ("dataset", "trust_remote_code"): "loading scripts of datasets are no longer run by the datasets library",
    ("dataset", "allow_pickle"): "it is about model weights; a dataset's files are carried as they are",
    ("tokenizer", "allow_pickle"): "it is about model weights; a tokenizer entry carries none",
    ("tokenizer", "configs"): "it names configurations of a dataset",
    ("model", "configs"): "it names configurations of a dataset",
    ("tokenizer", "data_files"): "it chooses files of a dataset",
    ("model", "data_files"): "it chooses files of a dataset; allow_patterns does so here",
}
# Names that people bring along from the libraries' own arguments.
SYNONYMS = {
    "repo": "repo_id",
    "id": "repo_id",
    "path": "repo_id",
    "model": "repo_id",
    "branch": "revision",
    "tag": "revision",
    "commit": "revision",
    "sha": "revision",
    "alias": "aliases",
    "include": "allow_patterns",
    "exclude": "ignore_patterns",
    "config": "configs",
    "subset": "configs",
    "tokenizer": "tokenizers",
    "dataset": "datasets",
}

_URL = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)


def repo_id_problem(text: str) -> str | None:
    """Check the name of a repository on the Hub."""
    if is_repo_id(text) and not text.endswith((".git", ".", "-")):
        return None
    expected = f"expected namespace/name as on the Hub, found {text!r}"
    bare = _URL.sub("", text.strip()).strip("/")
    bare = re.sub(r"^(?:datasets|models|spaces)/", "", bare)
    bare = re.sub(r"/(?:tree|blob|resolve)/.*$", "", bare).removesuffix(".git")
    if match := re.fullmatch(r"([^@:]+)[@:]([^@:]+)", bare):
        if is_repo_id(match[1]):
            return f"{expected}; write repo_id: {match[1]} and revision: {match[2]}"
    elif bare != text and is_repo_id(bare):
        return f"{expected}; write {bare}"
    return f"{expected}; letters, digits, '-', '_' and '.', at most one '/', no '--' or '..', up to 96 characters"


def revision_problem(text: str) -> str | None:
    """Check a branch, tag or full commit."""
    if is_commit(text):
        return None
    if is_commit(text.lower()):
        return f"a commit is written in lower case: {text.lower()}"
    # Hex letters and digits mixed: `git log --oneline` prints these, and a branch is hardly ever called so.
    if re.fullmatch(r"(?=.*[0-9])(?=.*[a-f])[0-9a-f]{7,39}", text):
        return f"{text} looks like a shortened commit, which does not load offline; write all 40 digits"
    if is_revision(text):
        return None
    return f"expected a branch, a tag or a full commit, found {text!r}"


def pattern_problem(text: str) -> str | None:
    """Check a file pattern, as `fnmatch` takes them."""
    if not text.strip():
        return "expected a pattern such as *.json, found an empty one"
    if text.startswith("!"):
        return f"{text!r}: there is no negation; put {text[1:]!r} into ignore_patterns"
    if "\\" in text:
        return f"{text!r} has a backslash; separate folders with '/'"
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        return f"{text!r} is absolute; patterns are relative to the repository: {text.lstrip('/')!r}"
    if any(part in (".", "..") for part in text.split("/")):
        return f"{text!r} has a '.' or '..' folder; patterns match the paths that the repository lists"
    return None


def config_problem(text: str) -> str | None:
    """Check the name of a dataset configuration, which becomes the name of a folder."""
    if re.fullmatch(r"[^<>:/\\|?*\x00-\x1f]+", text) and text.strip() == text:
        return None
    return f"expected the name of a dataset configuration, such as default, found {text!r}"
