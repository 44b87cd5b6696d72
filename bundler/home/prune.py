"""Delete what a bundle has and nobody else uses.

Other bundles keep what they name, and the user what snapshots of his own link to.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bundler.files.atomic import atomic_write
from bundler.files.links import replace_symlink
from bundler.files.paths import inside
from bundler.home.conflicts import pins
from bundler.home.publish import listed_and_present, publish_trees
from bundler.plan.layout import Layout, RepoLayout


def prune(hf_home: Path, gone: Layout, *, keep: Iterable[Layout], stays: Iterable[str] = ()) -> int:
    """Delete what only `gone` has: refs first, content last, so that nothing visible is ever incomplete.

    The files of `stays` were there before any bundle (`bundler.home.journal`).

    A ref or other name that names what is gone, and that one of `keep` needs otherwise, is given to that one: homes
    that were written before `bundler.home.conflicts` stood guard may hold such.

    Returns:
        Bytes freed.
    """
    keep = list(keep)
    _hand_over(hf_home, gone, keep)
    kept = [repo for content in keep for repo in content.repos]
    kept_paths = {path for repo in kept for path in owned_paths(repo)} | set(stays)
    freed = 0
    for repo in gone.repos:
        folders = [repo.folder]
        for path, target in repo.alias_links():
            place = inside(hf_home, path)
            if place.is_symlink():
                if path not in kept_paths and place.readlink() == Path(target):
                    place.unlink()
            elif path.startswith("hub/") and place.is_dir():
                folders.append(path)
            elif place.is_dir():
                for blob in repo.prepared:
                    freed += delete(hf_home, f"{path}/{blob.path.split('/', 2)[2]}", kept_paths)
        for folder in folders:
            freed += _prune_folder(hf_home, repo, folder, kept_paths)
        for blob in repo.prepared:
            freed += delete(hf_home, blob.path, kept_paths)
    publish_trees(hf_home, Layout(repos=tuple(r for r in kept if inside(hf_home, r.folder).exists())), {})
    return freed


def _hand_over(hf_home: Path, gone: Layout, keep: Sequence[Layout]) -> None:
    held = pins(gone)
    for content in reversed(keep):
        for path, pin in pins(content).items():
            old = held.get(path)
            if old is None or old.value == pin.value:
                continue
            place = inside(hf_home, path)
            if place.is_symlink():
                if place.readlink() == Path(old.value):
                    replace_symlink(place, pin.value)
            elif place.is_file() and place.read_bytes() == old.value.encode():
                atomic_write(place, pin.value.encode())


def _prune_folder(hf_home: Path, repo: RepoLayout, folder: str, kept: set[str]) -> int:
    freed = 0
    for text in repo.ref_texts():
        path = repo.path_in(folder, text.path)
        if not _names_another(inside(hf_home, path), text.content):
            delete(hf_home, path, kept)
    for file in repo.snapshots:
        freed += delete(hf_home, repo.path_in(folder, file.path), kept)
    for marker in repo.markers:
        delete(hf_home, repo.path_in(folder, marker.path), kept)
    for commit in repo.trees:
        path = f"{folder}/trees/{commit}.json"
        if not listed_and_present(hf_home, folder, commit):
            delete(hf_home, path, kept)
    used = set(link_targets(inside(hf_home, folder) / "snapshots"))
    for blob in repo.blobs:
        place = inside(hf_home, repo.path_in(folder, blob.path))
        if place not in used:
            freed += delete(hf_home, repo.path_in(folder, blob.path), kept)
    return freed


def _names_another(ref: Path, content: bytes) -> bool:
    try:
        return ref.read_bytes() != content
    except OSError:
        return False


def owned_paths(repo: RepoLayout) -> Iterator[str]:
    """Yield every path that `repo` needs, under all of its names."""
    for folder in repo.hub_folders:
        for item in (*repo.blobs, *repo.snapshots, *repo.markers, *repo.ref_texts(), *repo.tree_texts()):
            yield repo.path_in(folder, item.path)  # type: ignore[attr-defined]
    for blob in repo.prepared:
        yield blob.path
    for path, _ in repo.alias_links():
        yield path


def link_targets(snapshots: Path) -> Iterator[Path]:
    """Yield what the links below a `snapshots` folder lead to."""
    for path in snapshots.rglob("*"):
        if path.is_symlink():
            yield (path.parent / path.readlink()).resolve()


def delete(hf_home: Path, path: str, kept: set[str]) -> int:
    """Delete a file that nothing in `kept` names, and the folders that it leaves empty; return the bytes freed."""
    place = inside(hf_home, path)
    if path in kept:
        return 0
    freed = 0
    # Gone already means that an earlier removal was killed: its empty folders may still be there.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        status = place.lstat()
        place.unlink()
        freed = status.st_size if status.st_nlink == 1 and not stat.S_ISLNK(status.st_mode) else 0
    top = {hf_home / "hub", hf_home / "datasets", hf_home}
    for parent in place.parents:
        if parent in top or hf_home not in parent.parents:
            break
        try:
            parent.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            break
    return freed
