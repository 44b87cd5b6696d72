"""Write the names of a layout into a HF_HOME whose blobs are already there, in the order that keeps it usable.

The order is the guarantee: snapshots, then tree listings and markers, then refs, then aliases. A process that is
killed in between leaves blobs that nothing points to, or a snapshot that no ref names: the libraries see the cache
as it was before. `bundler.home.installation.steps` adds the receipt last; `bundle fetch` uses the same steps for the
cache on which it proves that a bundle loads, so what is proven is what will be installed.

Every step may be repeated and may run beside another process that does the same: each name is made under a
temporary name and renamed, and a name that is already right is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from bundler.files.atomic import atomic_write, fsync_dir, temporary_path
from bundler.files.links import hard_links_work, link_or_copy, replace_symlink
from bundler.files.paths import inside, path_inside
from bundler.home.common.snapshot_links import SnapshotLinks
from bundler.home.common.trees import OtherTrees, merge_tree
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.layout import Blob, Layout, RepoLayout, SnapshotFile, Text, tree_json


class ContentPlaces:
    """Where the content of each blob stands, for a file system without symlinks.

    With hard links a blob and its snapshot files are one file. Without, the blob is moved to its first snapshot
    file, since keeping both would take twice the room; the libraries load such a cache.
    """

    def __init__(self, hf_home: Path, located: Mapping[str, str] | None = None) -> None:
        self._hf_home = hf_home
        self._located = dict(located or {})
        self._hf_home_links: bool | None = None

    def put(self, blob: Blob, path: Path) -> None:
        """Make `path` a regular file with the blob's content."""
        home = inside(self._hf_home, blob.path)
        source = Path(self._located.get(blob.path, home))
        if path.exists() and not path.is_symlink() and path.samefile(source):
            return
        if source != home or self._hard_links_work():
            link_or_copy(source, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            source.replace(path)
            self._located[blob.path] = str(path)

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
    located: Mapping[str, str] | None = None,
    other_trees: OtherTrees | None = None,
    held: Collection[str] = (),
    on_step: Callable[[str], None] = lambda step: None,
) -> None:
    """Make everything but blobs, prepared files and the receipt.

    Args:
        hf_home: Where the blobs of `layout` already stand, verified.
        layout: What to publish.
        symlinks: Whether `hf_home` takes symlinks (`symlinks_work`).
        located: Where the content of a blob stands if not at its own path (see `ContentPlaces`).
        other_trees: What other bundles ship of the same commits; their files stay listed.
        held: Refs and links that stay what they are, since another bundle came first.
        on_step: Called with the path of each repo folder before a ref makes it visible.
    """
    if symlinks:
        gather_blobs(hf_home, layout, located or {})
    places = None if symlinks else ContentPlaces(hf_home, located)
    trees = other_trees or {}
    for repo in layout.repos:
        _snapshots(hf_home, repo, repo.snapshots, places)
        _listings(hf_home, repo, repo.folder, trees)
    for repo in layout.repos:
        on_step(repo.folder)
        _write_refs(hf_home, repo, repo.folder, held)
        _publish_aliases(hf_home, repo, places, trees, held)


def find_moved_refs(hf_home: Path, content: Layout, held: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (path, what it says, what `content` needs) of each ref that publishing will move."""
    for repo in content.repos:
        for text in repo.ref_texts():
            if text.path in held:
                continue
            try:
                old = inside(hf_home, text.path).read_text()
            except (OSError, UnicodeDecodeError):
                continue
            if old != text.content.decode():
                yield text.path, old, text.content.decode()


def publish_refs(hf_home: Path, layout: Layout, *, held: Collection[str] = ()) -> None:
    """Let refs and other names say again what `layout` needs; all that they lead to is there, and symlinks work."""
    for repo in layout.repos:
        for path, target in repo.alias_links():
            place = inside(hf_home, path)
            if path in held:
                continue
            if place.is_symlink() or not place.exists():
                replace_symlink(place, target)
            elif path.startswith("datasets/"):
                _expand_prepared(hf_home, repo, place, target)
        for folder in repo.hub_folders:
            if folder == repo.folder or not inside(hf_home, folder).is_symlink():
                _write_refs(hf_home, repo, folder, held)


def _write_refs(hf_home: Path, repo: RepoLayout, folder: str, held: Collection[str]) -> None:
    for text in repo.ref_texts():
        path = repo.path_in(folder, text.path)
        if path not in held:
            _write_if_changed(hf_home, replace(text, path=path))


def gather_blobs(hf_home: Path, layout: Layout, located: Mapping[str, str]) -> None:
    """Give each blob its file, before a link to it replaces what may be the only copy of its content.

    A home that was copied without its links (`cp -L`, a FAT disk, Windows) has files in snapshots and no blobs.
    """
    folders = set()
    for repo in layout.repos if located else ():
        for blob in repo.blobs:
            if (found := located.get(blob.path)) is None or found == path_inside(hf_home, blob.path):
                continue
            # Whatever stands at its place is not its content.
            own = inside(hf_home, blob.path)
            if own.is_dir() and not own.is_symlink():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(own))
            link_or_copy(found, own)
            folders.add(own.parent)
    for folder in folders:
        fsync_dir(folder)


def place_prepared(
    hf_home: Path, layout: Layout, sources: Mapping[str, str | Path], *, held: Collection[str] = ()
) -> None:
    """Move prepared dataset files from where they were verified to where `datasets` looks for them.

    A folder of them appears in one step, since the library takes a folder that exists for a whole dataset. Into a
    folder that is there already files are renamed one by one, `dataset_info.json`, which it reads first, last.

    Args:
        hf_home: The cache root.
        layout: What to place.
        sources: sha256 -> file with that content, on the same file system.
        held: Files that stay what they are, since another bundle came first.
    """
    folders: dict[str, list[Blob]] = {}
    for repo in layout.repos:
        for blob in repo.prepared:
            if blob.path not in held:
                folders.setdefault(posixpath.dirname(blob.path), []).append(blob)
    for folder, blobs in folders.items():
        place = inside(hf_home, folder)
        if place.exists():
            for blob in sorted(blobs, key=lambda b: (b.path.endswith("/dataset_info.json"), b.path)):
                path = inside(hf_home, blob.path)
                if not (path.exists() and path.samefile(sources[blob.sha256])):
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


def _snapshots(
    hf_home: Path, repo: RepoLayout, files: Iterable[SnapshotFile], places: ContentPlaces | None
) -> None:
    if places is not None:
        for file in files:
            places.put(file.blob, inside(hf_home, file.path))
        return
    links = SnapshotLinks(hf_home, repo)
    for file in files:
        replace_symlink(
            path_inside(hf_home, file.path),
            links.choose(file.path, file.blob.path),
            accepts=partial(links.accepts, file.path, file.blob.path),
        )


def _write_if_changed(hf_home: Path, text: Text) -> None:
    path = inside(hf_home, text.path)
    with contextlib.suppress(OSError):
        if path.read_bytes() == text.content:
            return
    atomic_write(path, text.content)


def _listings(hf_home: Path, repo: RepoLayout, folder: str, other_trees: OtherTrees) -> None:
    for commit, files in repo.trees.items():
        content = tree_json(merge_tree(hf_home, folder, commit, files, other_trees))
        _write_if_changed(hf_home, Text(path=f"{folder}/trees/{commit}.json", content=content))
    for marker in repo.markers:
        _write_if_changed(hf_home, replace(marker, path=repo.path_in(folder, marker.path)))


def _publish_aliases(
    hf_home: Path,
    repo: RepoLayout,
    places: ContentPlaces | None,
    other_trees: OtherTrees,
    held: Collection[str],
) -> None:
    for path, target in repo.alias_links():
        place = inside(hf_home, path)
        if path in held:
            continue
        if places is None and (place.is_symlink() or not place.exists()):
            replace_symlink(place, target)
        elif path.startswith("datasets/"):
            _expand_prepared(hf_home, repo, place, target)
    for folder in repo.hub_folders[1:]:
        if not inside(hf_home, folder).is_symlink():
            _expand_alias(hf_home, repo, folder, places, other_trees, held)


def _expand_prepared(hf_home: Path, repo: RepoLayout, place: Path, target: str) -> None:
    """Fill a folder of prepared files that is called by another name and is no link, as `_expand_alias` does."""
    for item in repo.prepared:
        source = inside(hf_home, item.path)
        path = place / source.relative_to(hf_home / "datasets" / target)
        if not (path.exists() and path.samefile(source)):
            link_or_copy(source, path)


def _expand_alias(
    hf_home: Path,
    repo: RepoLayout,
    folder: str,
    places: ContentPlaces | None,
    other_trees: OtherTrees,
    held: Collection[str],
) -> None:
    """Fill a folder that cannot be a link to the canonical one.

    Either the file system has no symlinks, or the user downloaded the repo by its alias before, and that folder,
    with whatever else is in it, is theirs.
    """
    _snapshots(hf_home, repo, [replace(f, path=repo.path_in(folder, f.path)) for f in repo.snapshots], places)
    _listings(hf_home, repo, folder, other_trees)
    _write_refs(hf_home, repo, folder, held)
