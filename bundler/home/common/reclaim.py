"""Delete what a bundle has and nobody else uses.

Other bundles keep what they name, and the user what snapshots of his own link to.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from bundler.files.atomic import atomic_write
from bundler.files.leftovers import remove_leftovers
from bundler.files.links import Resolver, replace_symlink
from bundler.files.paths import inside, path_inside
from bundler.home.common.conflicts import pins
from bundler.home.common.extras import list_files
from bundler.home.common.publish import publish_trees
from bundler.home.common.sweep import sweep_shared
from bundler.home.common.trees import list_present
from bundler.plan.folders import CONTENT_FOLDERS
from bundler.plan.layout import Layout, RepoLayout


def reclaim(
    hf_home: Path,
    gone: Layout,
    *,
    keep: Iterable[Layout],
    current: Iterable[Layout],
    stays: Iterable[str] = (),
) -> int:
    """Delete what only `gone` has: refs first, content last, so that nothing visible is ever incomplete.

    A ref or other name that says what `gone` needs, and that one of `current` needs otherwise, is given to that one.

    Args:
        hf_home: The cache root.
        gone: What is given up.
        keep: What all other generations have.
        current: What the shared view shows of the bundles that are installed.
        stays: Files that were there before any bundle (`bundler.home.common.journal`).

    Returns:
        Bytes freed.
    """
    current = list(current)
    hand_over(hf_home, gone, current)
    kept = [repo for content in keep for repo in content.repos]
    kept_paths = _list_kept(kept, stays)
    # What refs and links of other names say, is for the current generations to say.
    kept_paths |= {path for content in current for repo in content.repos for path in owned_names(repo)}
    freed = 0
    sweep_shared(hf_home)
    for repo in gone.repos:
        for folder in {repo.folder, *(posixpath.dirname(blob.path) for blob in repo.prepared)}:
            remove_leftovers(inside(hf_home, folder), now=time.time())
        folders = [repo.folder]
        for path, target in repo.alias_links():
            place = inside(hf_home, path)
            if place.is_symlink():
                if path not in kept_paths and place.readlink() == Path(target):
                    place.unlink()
            elif path.startswith("hub/") and place.is_dir():
                folders.append(path)
            elif place.is_dir():
                below = (blob.path.split("/", 2)[2] for blob in repo.prepared)
                freed += delete_all(hf_home, (f"{path}/{name}" for name in below), kept_paths)
        for folder in folders:
            freed += _reclaim_folder(hf_home, repo, folder, kept_paths)
        freed += delete_all(hf_home, (blob.path for blob in repo.prepared), kept_paths)
    publish_trees(hf_home, Layout(repos=tuple(r for r in kept if inside(hf_home, r.folder).exists())), {})
    return freed


def list_content(
    hf_home: Path,
    gone: Layout,
    *,
    keep: Iterable[Layout],
    stays: Iterable[str] = (),
    deleted: Collection[str] = (),
) -> Iterator[str]:
    """Yield the files with content that `reclaim` would delete; nothing is changed.

    Args:
        hf_home: The cache root.
        gone: As for `reclaim`, like `keep` and `stays`.
        keep: What all other generations have.
        stays: Files that were there before any bundle.
        deleted: Paths that are taken to be gone already.
    """
    kept = _list_kept([repo for content in keep for repo in content.repos], stays)
    for repo in gone.repos:
        folders, prepared = [repo.folder], [blob.path for blob in repo.prepared]
        for path, _ in repo.alias_links():
            place = inside(hf_home, path)
            if place.is_symlink() or not place.is_dir():
                continue
            if path.startswith("hub/"):
                folders.append(path)
            else:
                prepared += [f"{path}/{blob.path.split('/', 2)[2]}" for blob in repo.prepared]
        for folder in folders:
            names = {repo.path_in(folder, file.path) for file in repo.snapshots} - kept
            yield from names
            left = (path for path in list_files(hf_home, f"{folder}/snapshots") if path not in names)
            used = set(link_targets(hf_home, (path for path in left if path not in deleted)))
            yield from (path for path in _list_unused(hf_home, repo, folder, used) if path not in kept)
        yield from (path for path in prepared if path not in kept)


def _list_kept(repos: Iterable[RepoLayout], stays: Iterable[str]) -> set[str]:
    return {path for repo in repos for path in owned_files(repo)} | set(stays)


def hand_over(hf_home: Path, gone: Layout, current: Iterable[Layout]) -> None:
    """Give refs and other names that say what `gone` needs, and nobody of `current`, to one that needs them otherwise.

    Args:
        hf_home: The cache root.
        gone: What the shared view showed of a bundle until now.
        current: What it is to show of all bundles.
    """
    wanted = [pins(content) for content in current]
    for path, old in pins(gone).items():
        found = sorted((held[path] for held in wanted if path in held), key=lambda pin: pin.yields)
        values = [pin.value for pin in found]
        if not values or old.value in values or (path.startswith("datasets/") and "/" in path[9:]):
            continue  # of prepared files the content would have to be at hand
        place = inside(hf_home, path)
        if place.is_symlink():
            if place.readlink() == Path(old.value):
                replace_symlink(place, values[0])
        elif place.is_file() and place.read_bytes() == old.value.encode():
            atomic_write(place, values[0].encode())


def _reclaim_folder(hf_home: Path, repo: RepoLayout, folder: str, kept: set[str]) -> int:
    freed = 0
    for text in repo.ref_texts():
        path = repo.path_in(folder, text.path)
        if not _names_another(inside(hf_home, path), text.content):
            delete(hf_home, path, kept)
    freed += delete_all(hf_home, (repo.path_in(folder, file.path) for file in repo.snapshots), kept)
    delete_all(hf_home, (repo.path_in(folder, marker.path) for marker in repo.markers), kept)
    for commit in repo.trees:
        path = f"{folder}/trees/{commit}.json"
        if not list_present(hf_home, folder, commit):
            delete(hf_home, path, kept)
    used = set(link_targets(hf_home, list_files(hf_home, f"{folder}/snapshots")))
    return freed + delete_all(hf_home, _list_unused(hf_home, repo, folder, used), kept)


def _list_unused(hf_home: Path, repo: RepoLayout, folder: str, used: Collection[str]) -> Iterator[str]:
    """Yield the blobs of a repo that are not among `used`, which `link_targets` gave."""
    # Resolved as they are: the home, or a folder in it, may be a link to another disk.
    resolver = Resolver()
    for blob in repo.blobs:
        path = repo.path_in(folder, blob.path)
        if resolver.resolve(f"{hf_home}/{path}") not in used:
            yield path


def _names_another(ref: Path, content: bytes) -> bool:
    try:
        return ref.read_bytes() != content
    except OSError:
        return False


def owned_paths(repo: RepoLayout) -> Iterator[str]:
    """Yield every path that `repo` needs, under all of its names."""
    yield from owned_files(repo)
    yield from owned_names(repo)


def owned_files(repo: RepoLayout) -> Iterator[str]:
    """Yield what `repo` needs that cannot be two things: content, snapshots, markers, listings."""
    for folder in repo.hub_folders:
        for item in (*repo.blobs, *repo.snapshots, *repo.markers):
            yield repo.path_in(folder, item.path)  # type: ignore[attr-defined]
        for path in repo.tree_paths():
            yield repo.path_in(folder, path)
    # Where an alias is no link, the prepared files have names of their own below it.
    folders = [path for path, _ in repo.alias_links() if path.startswith("datasets/")]
    for blob in repo.prepared:
        yield blob.path
        for folder in folders:
            yield f"{folder}/{blob.path.split('/', 2)[2]}"


def owned_names(repo: RepoLayout) -> Iterator[str]:
    """Yield the refs of `repo` and the links of its other names."""
    for folder in repo.hub_folders:
        for text in repo.ref_texts():
            yield repo.path_in(folder, text.path)
    for path, _ in repo.alias_links():
        yield path


def link_targets(hf_home: Path, paths: Iterable[str]) -> Iterator[str]:
    """Yield what those of `paths` that are links lead to, resolved; paths are relative to `hf_home`."""
    resolver = Resolver()
    for path in paths:
        place = f"{hf_home}/{path}"
        with contextlib.suppress(OSError):
            # `join` takes the target alone where it is absolute.
            target = os.readlink(place)  # noqa: PTH115 -- strings: a Path for each of 100,000 links takes seconds
            yield resolver.resolve(posixpath.join(posixpath.dirname(place), target))


def delete(hf_home: Path, path: str, kept: set[str]) -> int:
    """Delete a file that nothing in `kept` names, and the folders that it leaves empty; return the bytes freed."""
    return delete_all(hf_home, [path], kept)


def delete_all(hf_home: Path, paths: Iterable[str], kept: set[str]) -> int:
    """Delete the files that nothing in `kept` names, then the folders that they leave empty; return the bytes freed."""
    freed = 0
    folders: set[str] = set()
    for path in paths:
        if path in kept:
            continue
        place = path_inside(hf_home, path)
        folders.add(path.rpartition("/")[0])
        # Gone already means that an earlier removal was killed: its empty folders may still be there.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.lstat(place)
            os.unlink(place)  # noqa: PTH108 -- strings: a Path for each of 100,000 files takes seconds
            freed += status.st_size if status.st_nlink == 1 and not stat.S_ISLNK(status.st_mode) else 0
    for folder in sorted(folders, reverse=True):
        _remove_empty(hf_home, folder)
    return freed


def _remove_empty(hf_home: Path, folder: str) -> None:
    """Delete a folder in the home, and those above it, as far as they are empty; not those of all repos."""
    while folder and folder not in CONTENT_FOLDERS:
        try:
            inside(hf_home, folder).rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = folder.rpartition("/")[0]
