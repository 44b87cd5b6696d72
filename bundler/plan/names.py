"""Rules for names: repo ids, revisions, commits, bundle names, the kinds of repos, and their folders in a cache.

Manifest, lock and Hub client share these rules. A function here checks only the form of a name.
"""

from __future__ import annotations

import functools
import posixpath
import re
from typing import Literal

RepoKind = Literal["tokenizer", "model", "dataset", "kernel", "space", "file"]
# `file` is none of the Hub's: what a manifest takes from another host.
RepoType = Literal["model", "dataset", "kernel", "space", "file"]
HUB_TYPES: tuple[RepoType, ...] = ("model", "dataset", "kernel", "space")

# What is loaded of these is code, and nothing else: whoever lists one trusts it.
CODE_KINDS: frozenset[RepoKind] = frozenset({"kernel", "space"})

# What the libraries ask for where a program names no revision.
DEFAULT_REVISION = "main"

_COMMIT = re.compile(r"[0-9a-f]{40}")
# huggingface_hub's rule for repo ids, without the length: https://huggingface.co/docs/huggingface_hub/package_reference/utilities
_REPO_ID = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")
# Bundle names are used in file names and on command lines, so they must be safe in both.
BUNDLE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")


def repo_type_of(kind: RepoKind) -> RepoType:
    """Return the Hub's type of an entry's repo: a tokenizer is in a model repo."""
    return "model" if kind == "tokenizer" else kind


def address_prefix(repo_type: RepoType) -> str:
    """Return what stands before the id in the Hub's addresses of a repo's pages and files: ``datasets/``."""
    return "" if repo_type == "model" else f"{repo_type}s/"


def is_repo_id(text: str) -> bool:
    """Return whether `text` has the form `name` or `namespace/name` of a repo on the Hub."""
    return bool(_REPO_ID.fullmatch(text)) and "--" not in text and ".." not in text and len(text) <= 96


def is_bundle_name(text: str) -> bool:
    """Return whether `text` can be a bundle's name: lower-case letters, digits, dots, dashes and underscores."""
    return bool(BUNDLE_NAME.fullmatch(text)) and ".." not in text


def is_revision(text: str) -> bool:
    """Return whether `text` can be a branch, a tag or a commit, and so a file below `refs/`."""
    # The length of a path and of a name that file systems take.
    return bool(_REVISION.fullmatch(text)) and not any(
        part in ("", ".", "..") or len(part) > 250 or len(text) > 1000 for part in text.split("/")
    )


def is_commit(text: str) -> bool:
    """Return whether `text` is a full commit: 40 lower-case hex digits."""
    return bool(_COMMIT.fullmatch(text))


def repo_folder(repo_id: str, repo_type: RepoType) -> str:
    """Return the folder of a repo below `hub/`, for instance ``models--openai-community--gpt2``."""
    return "--".join([f"{repo_type}s", *repo_id.split("/")])


def repo_place(repo_id: str, repo_type: RepoType) -> str:
    """Return the folder of a repo below HF_HOME; files of other hosts are no business of huggingface_hub."""
    if repo_type == "file":
        return f"files/{repo_id.replace('/', '--')}"
    return f"hub/{repo_folder(repo_id, repo_type)}"


def is_blob_path(path: str) -> bool:
    """Tell whether a path of a layout is ``hub/<folder>/blobs/<etag>``; a file of a repo may have such a folder too."""
    return path.startswith(("hub/", "files/")) and path.startswith("/blobs/", path.find("/", path.find("/") + 1))


def repo_id_of(folder: str) -> str:
    """Return the id of the repo whose folder below `hub/` is named `folder`."""
    return "/".join(folder.split("--")[1:])


def prepared_folder(repo_id: str) -> str:
    """Return the folder of a prepared dataset below `datasets/`, as the `datasets` library names it.

    The library turns the last part of the id from camel case into snake case
    (`datasets.naming.camelcase_to_snakecase`).
    """
    *namespace, name = repo_id.split("/")
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    name = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", name).lower()
    return "___".join([*namespace, name])


def snapshot_link_target(path: str, blob_path: str) -> str:
    """Return the relative link from a snapshot file to its blob, for instance ``../../blobs/<etag>``."""
    folder, _, name = blob_path.rpartition("/")
    return f"{_find_relative_path(path.rpartition('/')[0], folder)}/{name}"


@functools.lru_cache(maxsize=1024)
def _find_relative_path(start: str, folder: str) -> str:
    return posixpath.relpath(folder, start)
