"""One view of several bundles, for a launch: links to their own views, and what they share put together.

A repo that only one of them has is one link to its folder there. Of a repo that several have, the snapshots, markers
and refs are put together, which is where two bundles can contradict each other: one branch at two commits, one alias
for two repos. Everything is names; content is where it was. A folder of prepared files is one link to that of a view
too: what `datasets` computes it writes beside them, and that is to outlive the launch.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from bundler.errors import ConflictError
from bundler.files.paths import inside
from bundler.home.common.conflicts import pins, settle_refs
from bundler.home.common.publish import publish
from bundler.home.common.trees import collect_trees
from bundler.home.installed import InstalledBundle
from bundler.plan.layout import Layout, RepoLayout
from bundler.text.wording import and_more


def compose_view(bundles: Sequence[InstalledBundle], root: Path) -> None:
    """Make a view of `bundles` in the folder `root`, which is empty or not there.

    Raises:
        ConflictError: They need one name to be two things; all of these are named.
    """
    check_composition(bundles)
    owners: dict[str, list[tuple[InstalledBundle, RepoLayout]]] = {}
    for bundle in bundles:
        for repo in settle(bundle, bundles).repos:
            owners.setdefault(repo.folder, []).append((bundle, repo))
    for folder, found in owners.items():
        bundle, repo = found[0]
        if len(found) == 1:
            _link(root / folder, bundle.view / folder)
        else:
            _link(root / folder / "blobs", bundle.hf_home / folder / "blobs")
            trees = collect_trees(Layout(repos=(repo,)) for _, repo in found)
            for _, other in found:
                publish(root, Layout(repos=(other,)), symlinks=True, other_trees=trees)
        for _, repo in found:
            for path, target in repo.alias_links():
                if not os.path.lexists(root / path):
                    _link(root / path, Path(target))
    _compose_datasets(bundles, root)


def _compose_datasets(bundles: Sequence[InstalledBundle], root: Path) -> None:
    folders: dict[str, dict[str, Path]] = {}
    for bundle in bundles:
        for repo in bundle.layout.repos:
            for blob in repo.prepared:
                place = inside(bundle.view, blob.path)
                folders.setdefault(posixpath.dirname(blob.path), {}).setdefault(blob.path, place)
    for folder, files in folders.items():
        sources = {place.parent for place in files.values()}
        has_more_below = any(other.startswith(f"{folder}/") for other in folders)
        if len(sources) == 1 and not has_more_below and os.access(source := sources.pop(), os.W_OK | os.X_OK):
            _link(root / folder, source)
        else:
            # Of several views; or who launches may not write there, and needs a folder of his own.
            for path, place in files.items():
                _link(root / path, place)


def settle(bundle: InstalledBundle, bundles: Sequence[InstalledBundle]) -> Layout:
    """Return what one of `bundles` has in a view of them all."""
    return settle_refs(bundle.layout, [other.layout for other in bundles if other is not bundle])


def check_composition(bundles: Sequence[InstalledBundle]) -> None:
    """Refuse bundles that need one name to be two things.

    Raises:
        ConflictError: Names every bundle, name and both values.
    """
    held: dict[str, tuple[InstalledBundle, str]] = {}
    lines = []
    for bundle in bundles:
        # Of names alone: the locks are not parsed for a view that is there.
        content = settle_refs(bundle.names, [other.names for other in bundles if other is not bundle])
        for path, pin in pins(content).items():
            first, value = held.setdefault(path, (bundle, pin.value))
            if value != pin.value:
                lines.append(f"{pin.what}: {first.name} needs {value}, {bundle.name} needs {pin.value}")
    if lines:
        names = ", ".join(bundle.name for bundle in bundles)
        raise ConflictError(
            f"bundles {names} cannot be used in one launch:\n  " + "\n  ".join(and_more(lines)),
            hint="name those that the program needs with --bundle; each alone has what it needs",
        )


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
