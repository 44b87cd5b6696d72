"""Refs that keep the commits of installed generations: `refs/bundle/NAME/COMMIT`, in the shared view.

`hf cache prune` deletes every commit that no ref names: those of older generations, and those that a manifest names by
commit. So each commit that a generation of a bundle has is named by a ref of that bundle. `hf cache ls` shows them, and
so who needs a commit.

They are a courtesy to the client's tools. Nothing is read by them, a view has none, and a home without them is whole:
`bundle install` writes those of all generations of its bundle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from bundler.files.atomic import atomic_write
from bundler.files.paths import inside
from bundler.home.common.reclaim import delete
from bundler.plan.folders import KEPT_REFS
from bundler.plan.layout import Layout, Text


def write_kept_refs(hf_home: Path, name: str, contents: Iterable[Layout]) -> None:
    """Write the refs of what a bundle has, where the commit is there and the ref is not.

    Args:
        hf_home: The cache root, under its lock.
        name: The bundle's name.
        contents: Layouts of its generations.
    """
    for content in contents:
        for snapshot, text in _list_refs(hf_home, name, content):
            # Of a ref without its snapshot the client says that the repo is damaged.
            if not inside(hf_home, snapshot).is_dir():
                continue
            # A branch of that very name may be in the way.
            with contextlib.suppress(OSError):
                if not inside(hf_home, text.path).is_file():
                    atomic_write(inside(hf_home, text.path), text.content)


def delete_kept_refs(hf_home: Path, name: str, gone: Layout, keep: Iterable[Layout]) -> None:
    """Delete the refs of what only `gone` has, before its snapshots go.

    Args:
        hf_home: The cache root, under its lock.
        name: The bundle's name.
        gone: The generation that is given up.
        keep: Layouts of the other generations of that bundle.
    """
    kept = {text.path for content in keep for _, text in _list_refs(hf_home, name, content)}
    for _, text in _list_refs(hf_home, name, gone):
        delete(hf_home, text.path, kept)


def _list_refs(hf_home: Path, name: str, content: Layout) -> Iterator[tuple[str, Text]]:
    """Yield (snapshot, ref) of each commit, in each folder that is a repo of its own for the client."""
    for repo in content.repos:
        for folder in repo.hub_folders:
            if folder != repo.folder and inside(hf_home, folder).is_symlink():
                continue
            # Whoever may write there could lead root out of the home by a link.
            ways = (f"{folder}/refs", f"{folder}/refs/{KEPT_REFS}", f"{folder}/refs/{KEPT_REFS}/{name}")
            if any(inside(hf_home, way).is_symlink() for way in ways):
                continue
            for text in repo.kept_refs(name):
                path = repo.path_in(folder, text.path)
                yield f"{folder}/snapshots/{text.content.decode()}", Text(path=path, content=text.content)
