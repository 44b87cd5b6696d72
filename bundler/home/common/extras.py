"""What stands in a snapshot and does not belong there: files that no bundle ships, markers that hide what one does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.files.access import raise_unless_absent
from bundler.files.atomic import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from bundler.plan.layout import RepoLayout


def shipped_paths(repos: Iterable[RepoLayout]) -> set[str]:
    """Return the paths of all snapshot files of `repos`, under every name that they have."""
    return {
        repo.path_in(folder, file.path) for repo in repos for folder in repo.hub_folders for file in repo.snapshots
    }


def extra_files(hf_home: Path, repo: RepoLayout, folder: str, shipped: set[str]) -> Iterator[str]:
    """Yield the paths in the snapshots of `repo`, in one of its folders, that are not among `shipped`."""
    for commit in repo.trees:
        for path in list_files(hf_home, f"{folder}/snapshots/{commit}"):
            if path not in shipped and not path.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
                yield path


def hiding_markers(hf_home: Path, repo: RepoLayout, folder: str) -> Iterator[str]:
    """Yield the `.no_exist` markers that say of a file of `repo` that there is none."""
    for commit, files in repo.trees.items():
        markers = set(list_files(hf_home, f"{folder}/.no_exist/{commit}"))
        for file in files if markers else ():
            if (marker := f"{folder}/.no_exist/{commit}/{file.path}") in markers:
                yield marker


def list_folders(hf_home: Path, folder: str) -> Iterator[str]:
    """Yield the paths, relative to `hf_home`, of all folders below one; links to folders are none."""
    with contextlib.suppress(OSError), os.scandir(f"{hf_home}/{folder}") as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield (path := f"{folder}/{entry.name}")
                yield from list_folders(hf_home, path)


def list_files(hf_home: Path, folder: str) -> Iterator[str]:
    """Yield the paths, relative to `hf_home`, of all files and links below a folder; strings, since they are many."""
    try:
        entries = list(os.scandir(f"{hf_home}/{folder}"))
    except OSError as error:
        raise_unless_absent(error)
        return
    for entry in entries:
        path = f"{folder}/{entry.name}"
        # A link to a folder is one name, not a tree.
        if entry.is_dir(follow_symlinks=False):
            yield from list_files(hf_home, path)
        else:
            yield path
