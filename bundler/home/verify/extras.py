"""What stands in a snapshot and does not belong there: files that no bundle ships, markers that hide what one does."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bundler.files.access import raise_unless_absent
from bundler.files.atomic import TEMPORARY_PREFIX
from bundler.files.paths import inside
from bundler.plan.layout import RepoLayout


def shipped_paths(repos: Iterable[RepoLayout]) -> set[str]:
    """Return the paths of all snapshot files of `repos`, under every name that they have."""
    return {
        repo.path_in(folder, file.path) for repo in repos for folder in repo.hub_folders for file in repo.snapshots
    }


def extra_files(hf_home: Path, repo: RepoLayout, folder: str, shipped: set[str]) -> Iterator[str]:
    """Yield the paths in the snapshots of `repo`, in one of its folders, that are not among `shipped`."""
    for commit in repo.trees:
        for place in _files_below(inside(hf_home, f"{folder}/snapshots/{commit}")):
            path = place.relative_to(hf_home).as_posix()
            if path not in shipped and not place.name.startswith(TEMPORARY_PREFIX):
                yield path


def hiding_markers(hf_home: Path, repo: RepoLayout, folder: str) -> Iterator[str]:
    """Yield the `.no_exist` markers that say of a file of `repo` that there is none."""
    for commit, files in repo.trees.items():
        for file in files:
            marker = f"{folder}/.no_exist/{commit}/{file.path}"
            if inside(hf_home, marker).exists():
                yield marker


def _files_below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=raise_unless_absent):
        # A link to a folder is one name, not a tree: os.walk lists it among the folders and does not enter.
        yield from (Path(folder, name) for name in names)
        yield from (path for name in folders if (path := Path(folder, name)).is_symlink())
