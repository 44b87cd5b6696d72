"""What stood in HF_HOME before a bundle was installed, and stays when it is removed: `HF_HOME/bundles/NAME.json.found`.

A user may have downloaded a repo that a bundle ships too, at the same commit. Files of equal names are then the
user's as much as the bundle's, and nothing on disk tells so afterwards. This file does. It is written before the
installation writes anything else, so that a run that goes on after a kill does not take the killed one's files for the
user's, and it goes when the bundle goes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.files.paths import atomic_write, inside
from bundler.home.prune import owned_paths
from bundler.plan.layout import BUNDLES_FOLDER, Layout, RepoLayout, repo_folder

FOUND_SUFFIX = ".json.found"


@dataclass
class Found:
    """What was there.

    Attributes:
        looked: Snapshot folders that were looked at, present or not: each is looked at once.
        paths: Content and snapshot files that were there and belonged to no bundle.
        refs: What refs said that a bundle wants to say something, by path.
    """

    looked: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    refs: dict[str, str] = field(default_factory=dict)


def found_path(hf_home: Path, name: str) -> Path:
    """Return where the record of a bundle stands."""
    return hf_home / BUNDLES_FOLDER / f"{name}{FOUND_SUFFIX}"


def read_found(hf_home: Path, name: str) -> Found | None:
    """Return the record; None if there is none, or none that can be read."""
    try:
        record = json.loads(found_path(hf_home, name).read_bytes())
        return Found(set(record["looked"]), set(record["paths"]), dict(record["refs"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def look(
    hf_home: Path,
    name: str,
    content: Layout,
    *,
    previous: Layout | None,
    others: Iterable[Layout],
    unfinished: Collection[str],
) -> Found:
    """Record what of `content` is there already and belongs to no bundle.

    Args:
        hf_home: The cache root.
        name: Of the bundle that is about to be installed.
        content: What it is about to own.
        previous: What an installation of that name owns now.
        others: What other installed bundles own.
        unfinished: Blobs that an installation which did not end has left.
    """
    recorded = read_found(hf_home, name)
    found = recorded or Found(looked=_folders_of(previous) if previous else set())
    owned = {path for layout in others for repo in layout.repos for path in owned_paths(repo)} | set(unfinished)
    if previous is not None:
        owned |= {path for repo in previous.repos for path in owned_paths(repo)}
    fresh = [repo for repo in content.repos if not set(_snapshot_folders(repo)) <= found.looked]
    for repo in fresh:
        for folder in _own_folders(hf_home, repo):
            names = [*(blob.path for blob in repo.blobs), *(file.path for file in repo.snapshots)]
            paths = [repo.path_in(folder, path) for path in names]
            found.paths |= {p for p in paths if p not in owned and os.path.lexists(inside(hf_home, p))}
            for ref in repo.ref_texts():
                path = repo.path_in(folder, ref.path)
                if path not in owned and (old := _text(inside(hf_home, path))) is not None:
                    found.refs.setdefault(path, old)
        prepared = [blob.path for blob in repo.prepared]
        found.paths |= {p for p in prepared if p not in owned and os.path.lexists(inside(hf_home, p))}
    found.looked |= _folders_of(content)
    if fresh:
        _write(hf_home, name, found)
    return found


def forget(hf_home: Path, name: str) -> None:
    """Delete the record: the bundle is gone, or nothing of it was published."""
    found_path(hf_home, name).unlink(missing_ok=True)


def hand_on(hf_home: Path, found: Found, survivors: Mapping[str, Layout]) -> None:
    """Let bundles that own the same files remember whose they were, when the one that found them goes."""
    for name, layout in survivors.items():
        owned = {path for repo in layout.repos for path in owned_paths(repo)}
        paths, refs = found.paths & owned, {path: old for path, old in found.refs.items() if path in owned}
        if paths or refs:
            theirs = read_found(hf_home, name) or Found(looked=_folders_of(layout))
            theirs.paths |= paths
            theirs.refs = refs | theirs.refs
            _write(hf_home, name, theirs)


def restore_refs(hf_home: Path, found: Found) -> None:
    """Give refs that are gone now what they said before, where what they named is still there."""
    for path, old in found.refs.items():
        folder = inside(hf_home, path.partition("/refs/")[0])
        if not inside(hf_home, path).exists() and (folder / "snapshots" / old.strip()).is_dir():
            atomic_write(inside(hf_home, path), old.encode())


def _own_folders(hf_home: Path, repo: RepoLayout) -> Iterator[str]:
    for folder in (repo.folder, *(f"hub/{repo_folder(alias, repo.repo_type)}" for alias in repo.aliases)):
        if not inside(hf_home, folder).is_symlink():
            yield folder


def _folders_of(layout: Layout) -> set[str]:
    return {folder for repo in layout.repos for folder in _snapshot_folders(repo)}


def _snapshot_folders(repo: RepoLayout) -> Iterator[str]:
    return (f"{repo.folder}/snapshots/{commit}" for commit in repo.trees)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write(hf_home: Path, name: str, found: Found) -> None:
    record = {"looked": sorted(found.looked), "paths": sorted(found.paths), "refs": found.refs}
    atomic_write(found_path(hf_home, name), (json.dumps(record, indent=1) + "\n").encode())
