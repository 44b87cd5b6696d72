"""One view of several bundles, for a launch: links to their own views, and what they share put together.

A repo that only one of them has is one link to its folder there. Of a repo that several have, the snapshots, markers
and refs are put together, which is where two bundles can contradict each other: one branch at two commits, one alias
for two repos. Everything is names; content is where it was. Prepared datasets are not in it: `datasets` writes what it
computes beside them, which is to outlive a launch, and so several bundles use those of the shared view.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bundler.errors import ConflictError
from bundler.home.common.conflicts import pins
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
        for repo in bundle.layout.repos:
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
                if path.startswith("hub/") and not os.path.lexists(root / path):
                    _link(root / path, Path(target))


def check_composition(bundles: Sequence[InstalledBundle]) -> None:
    """Refuse bundles that need one name to be two things.

    Raises:
        ConflictError: Names every bundle, name and both values.
    """
    held: dict[str, tuple[InstalledBundle, str]] = {}
    lines = []
    for bundle in bundles:
        for path, pin in pins(bundle.layout).items():
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
