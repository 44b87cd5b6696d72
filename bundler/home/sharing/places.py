"""The folders and files of an installed bundle that a reader needs to get at, in its view and in the shared one."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from bundler.home.generation import GENERATIONS_FOLDER, VIEWS_FOLDER, generation_path
from bundler.home.sharing.trusted_users import list_folders
from bundler.plan.folders import BUNDLES_FOLDER, CONTENT_FOLDERS
from bundler.plan.layout import Layout


def list_shared_folders(hf_home: Path, content: Layout) -> Iterator[str]:
    """Yield the folders that hold all bundles, and those of `content` in the shared view; not all need be there."""
    yield str(hf_home)
    yield from (
        f"{hf_home}/{name}" for name in (*CONTENT_FOLDERS, BUNDLES_FOLDER, GENERATIONS_FOLDER, VIEWS_FOLDER)
    )
    for repo in content.repos:
        yield from (f"{hf_home}/{folder}" for folder in list_folders(hf_home, repo))


def list_places(hf_home: Path, name: str, digest: str, content: Layout, view: Path) -> Iterator[str]:
    """Yield all places of one installed bundle: folders before what is in them, and no links.

    Args:
        hf_home: The cache root.
        name: The bundle's name.
        digest: The bundle's digest.
        content: What it holds.
        view: The root of its view; `hf_home` where it has none.
    """
    yield from list_shared_folders(hf_home, content)
    receipt = generation_path(hf_home, name, digest)
    yield from (str(receipt.parent), str(receipt), f"{hf_home}/{BUNDLES_FOLDER}/{name}.json")
    if view != hf_home:
        yield from (str(view.parent), str(view), *(f"{view}/{name}" for name in CONTENT_FOLDERS))
    for repo in content.repos:
        for ref in repo.kept_refs(name):
            folder = posixpath.dirname(ref.path)
            yield from (f"{hf_home}/{path}" for path in (posixpath.dirname(folder), folder, ref.path))
    for root in dict.fromkeys((hf_home, view)):
        for repo in content.repos:
            if root != hf_home:
                yield from (f"{root}/{folder}" for folder in list_folders(root, repo))
            names = [item.path for item in (*repo.prepared, *repo.markers, *repo.ref_texts())]  # type: ignore[attr-defined]
            names += repo.tree_paths()
            if root == hf_home:
                names += [blob.path for blob in repo.blobs]
            if view == hf_home:
                # Without symlinks these are files; with them, links of an earlier version.
                names += [file.path for file in repo.snapshots]
            yield from (f"{root}/{path}" for path in names)


def read_status(place: str) -> os.stat_result | None:
    """Return the status of what is at a place, a link left aside; None if there is nothing."""
    try:
        return os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
