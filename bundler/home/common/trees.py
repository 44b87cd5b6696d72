"""The client's listings of a commit's files, `trees/<commit>.json`: what several generations ship, in one list."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import BundleError
from bundler.files.paths import path_inside
from bundler.plan.layout import Layout

if TYPE_CHECKING:
    from bundler.plan.lock import LockedFile

# (folder of the repo below HF_HOME, commit) -> files that other generations ship of that commit.
OtherTrees = Mapping[tuple[str, str], Iterable["LockedFile"]]


def collect_trees(contents: Iterable[Layout]) -> dict[tuple[str, str], list[LockedFile]]:
    """Return what `contents` ship of each (repo folder, commit), under all names of the repos."""
    trees: dict[tuple[str, str], list[LockedFile]] = {}
    for content in contents:
        for repo in content.repos:
            for folder in repo.hub_folders:
                for commit, files in repo.trees.items():
                    trees.setdefault((folder, commit), []).extend(files)
    return trees


def merge_tree(
    hf_home: Path, folder: str, commit: str, files: Iterable[LockedFile], other_trees: OtherTrees
) -> list[LockedFile]:
    """Return the files that `trees/<commit>.json` must list: ours, other bundles', and the user's own downloads.

    An entry that is on disk but in no lock stays only while its snapshot file exists: the client reads a listed,
    missing file as a broken snapshot.
    """
    merged = {file.path: file for file in list_present(hf_home, folder, commit)}
    # What another installation, perhaps one that was killed, has not published yet is not listed yet.
    snapshot = f"{hf_home}/{folder}/snapshots/{commit}"
    merged |= {
        file.path: file
        for file in other_trees.get((folder, commit), ())
        if os.path.exists(path_inside(snapshot, file.path))  # noqa: PTH110 -- strings, as below
    }
    merged |= {file.path: file for file in files}
    return [merged[path] for path in sorted(merged)]


def list_present(hf_home: Path, folder: str, commit: str) -> list[LockedFile]:
    """Return the entries of a tree listing on disk whose snapshot files exist."""
    from bundler.plan.lock import LockedFile

    snapshot = f"{hf_home}/{folder}/snapshots/{commit}"
    if not os.path.isdir(snapshot):  # noqa: PTH112 -- strings: a Path for each of 100,000 files takes seconds
        return []
    try:
        listing = json.loads((hf_home / folder / "trees" / f"{commit}.json").read_bytes())["files"]
        return [
            LockedFile(
                path=path, size_bytes=info["size"], blob_id=info["blob_id"], lfs_sha256=info.get("lfs_sha256")
            )
            for path, info in listing.items()
            if os.path.exists(path_inside(snapshot, path))  # noqa: PTH110 -- strings, as above
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, BundleError):
        # Missing, damaged or of a version that we do not know: the client would ignore it too.
        return []
