"""Write the names of a layout into a HF_HOME whose blobs are already there, in the order that keeps it usable.

The order is the guarantee: snapshots, then tree listings and markers, then refs, then aliases. A process that is
killed in between leaves blobs that nothing points to, or a snapshot that no ref names: the libraries see the cache
as it was before. `bundler.home.install` adds the receipt last; `bundle fetch` uses the same steps for the cache on
which it proves that a bundle loads, so what is proven is what will be installed.

Every step may be repeated and may run beside another process that does the same: each name is made under a
temporary name and renamed, and a name that is already right is left alone.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bundler.errors import BundleError
from bundler.files.atomic import atomic_write, temporary_path
from bundler.files.links import hard_links_work, link_or_copy, replace_symlink
from bundler.files.paths import inside
from bundler.plan.layout import (
    BUNDLES_FOLDER,
    Blob,
    Layout,
    RepoLayout,
    SnapshotFile,
    Text,
    snapshot_link_target,
    tree_json,
)
from bundler.plan.lock import LockedFile

# (folder of the repo below HF_HOME, commit) -> files that other installed bundles ship of that commit.
OtherTrees = Mapping[tuple[str, str], Iterable[LockedFile]]


class ContentPlaces:
    """Where the content of each blob stands, for a file system without symlinks.

    With hard links a blob and its snapshot files are one file. Without, the blob is moved to its first snapshot
    file, since keeping both would take twice the room; the libraries load such a cache.
    """

    def __init__(self, hf_home: Path, located: Mapping[str, Path] | None = None) -> None:
        self._hf_home = hf_home
        self._located = dict(located or {})
        self._hf_home_links: bool | None = None

    def put(self, blob: Blob, path: Path) -> None:
        """Make `path` a regular file with the blob's content."""
        home = inside(self._hf_home, blob.path)
        source = self._located.get(blob.path, home)
        if path.exists() and not path.is_symlink() and path.samefile(source):
            return
        if source != home or self._hard_links_work():
            link_or_copy(source, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            source.replace(path)
            self._located[blob.path] = path

    def _hard_links_work(self) -> bool:
        # Found out by writing, and so only where something is to be written.
        if self._hf_home_links is None:
            self._hf_home_links = hard_links_work(self._hf_home)
        return self._hf_home_links


def publish(
    hf_home: Path,
    layout: Layout,
    *,
    symlinks: bool,
    located: Mapping[str, Path] | None = None,
    other_trees: OtherTrees | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> None:
    """Make everything but blobs, prepared files and the receipt.

    Args:
        hf_home: Where the blobs of `layout` already stand, verified.
        layout: What to publish.
        symlinks: Whether `hf_home` takes symlinks (`symlinks_work`).
        located: Where the content of a blob stands if not at its own path (see `ContentPlaces`).
        other_trees: What other bundles ship of the same commits; their files stay listed.
        on_step: Called with the path of each repo folder before a ref makes it visible.
    """
    places = None if symlinks else ContentPlaces(hf_home, located)
    trees = other_trees or {}
    for repo in layout.repos:
        _snapshots(hf_home, repo.snapshots, places)
        _listings(hf_home, repo, repo.folder, trees)
    for repo in layout.repos:
        on_step(repo.folder)
        for text in repo.ref_texts():
            _write_if_changed(hf_home, text)
        _aliases(hf_home, repo, places, trees)


def place_prepared(hf_home: Path, layout: Layout, sources: Mapping[str, Path]) -> None:
    """Move prepared dataset files from where they were verified to where `datasets` looks for them.

    A folder of them appears in one step, since the library takes a folder that exists for a whole dataset. Into a
    folder that is there already files are renamed one by one, `dataset_info.json`, which it reads first, last.

    Args:
        hf_home: The cache root.
        layout: What to place.
        sources: sha256 -> file with that content, on the same file system.
    """
    folders: dict[str, list[Blob]] = {}
    for repo in layout.repos:
        for blob in repo.prepared:
            folders.setdefault(posixpath.dirname(blob.path), []).append(blob)
    for folder, blobs in folders.items():
        place = inside(hf_home, folder)
        if place.exists():
            for blob in sorted(blobs, key=lambda b: (b.path.endswith("/dataset_info.json"), b.path)):
                path = inside(hf_home, blob.path)
                if path != sources[blob.sha256]:
                    link_or_copy(sources[blob.sha256], path)
            continue
        temporary = temporary_path(hf_home / BUNDLES_FOLDER)
        temporary.mkdir(parents=True)
        try:
            for blob in blobs:
                link_or_copy(sources[blob.sha256], temporary / posixpath.basename(blob.path))
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.rename(place)
            except OSError:
                # Another installation was faster; what it made is what we would have made.
                if not place.is_dir():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def publish_trees(hf_home: Path, layout: Layout, other_trees: OtherTrees) -> None:
    """Write the tree listings again, for when another bundle's receipt has appeared meanwhile."""
    for repo in layout.repos:
        _listings(hf_home, repo, repo.folder, other_trees)


def _snapshots(hf_home: Path, files: Iterable[SnapshotFile], places: ContentPlaces | None) -> None:
    for file in files:
        path = inside(hf_home, file.path)
        if places is None:
            replace_symlink(path, snapshot_link_target(file.path, file.blob.path))
        else:
            places.put(file.blob, path)


def _write_if_changed(hf_home: Path, text: Text) -> None:
    path = inside(hf_home, text.path)
    with contextlib.suppress(OSError):
        if path.read_bytes() == text.content:
            return
    atomic_write(path, text.content)


def _listings(hf_home: Path, repo: RepoLayout, folder: str, other_trees: OtherTrees) -> None:
    for commit, files in repo.trees.items():
        content = tree_json(merged_tree(hf_home, folder, commit, files, other_trees))
        _write_if_changed(hf_home, Text(path=f"{folder}/trees/{commit}.json", content=content))
    for marker in repo.markers:
        _write_if_changed(hf_home, replace(marker, path=repo.path_in(folder, marker.path)))


def merged_tree(
    hf_home: Path, folder: str, commit: str, files: Iterable[LockedFile], other_trees: OtherTrees
) -> list[LockedFile]:
    """Return the files that `trees/<commit>.json` must list: ours, other bundles', and the user's own downloads.

    An entry that is on disk but in no lock stays only while its snapshot file exists: the client reads a listed,
    missing file as a broken snapshot.
    """
    merged = {file.path: file for file in listed_and_present(hf_home, folder, commit)}
    merged |= {file.path: file for file in other_trees.get((folder, commit), ())}
    merged |= {file.path: file for file in files}
    return [merged[path] for path in sorted(merged)]


def listed_and_present(hf_home: Path, folder: str, commit: str) -> list[LockedFile]:
    """Return the entries of a tree listing on disk whose snapshot files exist."""
    try:
        listing = json.loads((hf_home / folder / "trees" / f"{commit}.json").read_bytes())["files"]
        return [
            LockedFile(
                path=path, size_bytes=info["size"], blob_id=info["blob_id"], lfs_sha256=info.get("lfs_sha256")
            )
            for path, info in listing.items()
            if inside(hf_home / folder / "snapshots" / commit, path).exists()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BundleError):
        # Missing, damaged or of a version that we do not know: the client would ignore it too.
        return []


def _aliases(hf_home: Path, repo: RepoLayout, places: ContentPlaces | None, other_trees: OtherTrees) -> None:
    for path, target in repo.alias_links():
        place = inside(hf_home, path)
        if places is None and (place.is_symlink() or not place.exists()):
            replace_symlink(place, target)
        elif path.startswith("datasets/"):
            for item in repo.prepared:
                source = inside(hf_home, item.path)
                link_or_copy(source, place / source.relative_to(hf_home / "datasets" / target))
    for folder in repo.hub_folders[1:]:
        if not inside(hf_home, folder).is_symlink():
            _expanded_alias(hf_home, repo, folder, places, other_trees)


def _expanded_alias(
    hf_home: Path, repo: RepoLayout, folder: str, places: ContentPlaces | None, other_trees: OtherTrees
) -> None:
    """Fill a folder that cannot be a link to the canonical one.

    Either the file system has no symlinks, or the user downloaded the repo by its alias before, and that folder,
    with whatever else is in it, is theirs.
    """
    _snapshots(hf_home, [replace(f, path=repo.path_in(folder, f.path)) for f in repo.snapshots], places)
    _listings(hf_home, repo, folder, other_trees)
    for text in repo.ref_texts():
        _write_if_changed(hf_home, replace(text, path=repo.path_in(folder, text.path)))
