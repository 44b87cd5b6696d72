"""Move what does not belong into a snapshot out of it: to `HF_HOME/bundles/set-aside`, under the path that it had.

An added chat template or module changes what loads, so that a bundle with one in its snapshot does not verify. Whoever
put it there may still want it: nothing is deleted here but markers, which are empty. A link is made again with its old
target, so that a download of the user's own at the same commit keeps its content.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bundler.files.paths import inside
from bundler.home.common.extras import extra_files, hiding_markers, list_folders, shipped_paths
from bundler.plan.folders import BUNDLES_FOLDER

if TYPE_CHECKING:
    from bundler.plan.layout import Layout, RepoLayout

SET_ASIDE_FOLDER = f"{BUNDLES_FOLDER}/set-aside"


def set_aside(hf_home: Path, content: Layout, others: Iterable[Layout]) -> list[tuple[str, str]]:
    """Clear the snapshots of `content` of what neither it nor `others` ship.

    Returns:
        (old path, new path) of each file that was moved.
    """
    moved = []
    shipped = shipped_paths(repo for layout in (content, *others) for repo in layout.repos)
    for repo in content.repos:
        for folder in _folders(hf_home, repo):
            for path in sorted(extra_files(hf_home, repo, folder, shipped)):
                moved.append((path, move_aside(hf_home, path)))
            for marker in list(hiding_markers(hf_home, repo, folder)):
                inside(hf_home, marker).unlink(missing_ok=True)
            folders = {
                path for commit in repo.trees for path in list_folders(hf_home, f"{folder}/snapshots/{commit}")
            }
            for file in repo.snapshots if folders else ():
                if (path := repo.path_in(folder, file.path)) in folders:
                    _remove_empty(inside(hf_home, path))
    return moved


def clear_ways(hf_home: Path, content: Layout) -> list[tuple[str, str]]:
    """Move files out of the way that stand where `content` has folders, or links to some; and folders, for files.

    A copy without its links has left such files: text with the target, as git and some archives write it. A folder
    comes of a hand, or of an archive that was unpacked in the wrong place.

    Returns:
        (old path, new path) of each file and folder that was moved.
    """
    moved = []
    for repo in content.repos:
        places = {path for path, _ in repo.alias_links()}
        for folder in repo.hub_folders:
            if folder != repo.folder and inside(hf_home, folder).is_symlink():
                continue
            places |= {
                folder,
                *(f"{folder}/{name}" for name in ("blobs", "snapshots", "refs", "trees", ".no_exist")),
            }
            places |= {f"{folder}/snapshots/{commit}" for commit in repo.trees}
        for blob in repo.prepared:
            places |= {str(parent) for parent in PurePosixPath(blob.path).parents if len(parent.parts) > 1}
        for path in sorted(places):
            place = inside(hf_home, path)
            if place.is_file() and not place.is_symlink():
                moved.append((path, move_aside(hf_home, path)))
        moved += [(path, move_aside(hf_home, path)) for path in sorted(_folders_for_files(hf_home, repo))]
    return moved


def _folders_for_files(hf_home: Path, repo: RepoLayout) -> set[str]:
    """Return what is a folder, and has to be a blob, a prepared file or a list of files."""
    # Not of refs: the folder `refs/a` belongs to another bundle's branch `a/b`.
    files = [*(blob.path for blob in (*repo.blobs, *repo.prepared)), *repo.tree_paths()]
    parents = {posixpath.dirname(path) for path in files}
    # A listing of each parent, since a question for each of 100,000 files takes seconds.
    found: set[str] = set()
    for parent in parents:
        with contextlib.suppress(FileNotFoundError), os.scandir(inside(hf_home, parent)) as entries:
            found |= {f"{parent}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False)}
    return found.intersection(files)


def _folders(hf_home: Path, repo: RepoLayout) -> list[str]:
    own = [
        path
        for path, _ in repo.alias_links()
        if path.startswith("hub/") and not inside(hf_home, path).is_symlink()
    ]
    return [repo.folder, *own]


def move_aside(hf_home: Path, path: str) -> str:
    """Move one file or folder out of the way, to another disk where `hub` is on one, and return where it is now."""
    source = inside(hf_home, path)
    name, number = f"{SET_ASIDE_FOLDER}/{path}", 1
    is_open = _can_be_made(inside(hf_home, name).parent)
    while os.path.lexists(inside(hf_home, name)) or not _can_be_made(inside(hf_home, name).parent):
        number += 1
        name = f"{SET_ASIDE_FOLDER}/{path}.{number}" if is_open else f"{SET_ASIDE_FOLDER}/{number}/{path}"
    target = inside(hf_home, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        old = source.readlink()
        target.symlink_to(old if old.is_absolute() else os.path.relpath(source.parent / old, target.parent))
        source.unlink()
    else:
        shutil.move(source, target)
    return name


def _can_be_made(folder: Path) -> bool:
    """Tell whether a folder is there, or no file stands where it, or one above it, would be."""
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place)).is_dir()


def _remove_empty(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()
