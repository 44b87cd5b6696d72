"""The view of one generation: a folder like an HF_HOME, which no other installation can change.

    hub/models--ns--name/blobs              link to the folder of that name in the shared view: content is there once
    hub/models--ns--name/snapshots/…        links to blobs (`bundler.home.common.snapshot_links`)
    hub/models--ns--name/{refs,trees,.no_exist}
    hub/models--alias                       link to models--ns--name
    datasets/ns___name/…                    hard links to the prepared files, or copies where there are none

All of it follows from the lock, so that `bundler.home.verify` checks a view as it checks a home. A new view is made
under a temporary name and renamed whole; one that is there is mended name by name, since jobs may be reading it.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import posixpath
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bundler.files.atomic import fsync_dir, temporary_path
from bundler.files.digest import hash_file
from bundler.files.links import LostNames, link_or_copy
from bundler.files.paths import inside
from bundler.home.common.extras import list_files
from bundler.home.common.publish import publish
from bundler.home.common.set_aside import move_aside
from bundler.home.common.snapshot_links import SnapshotLinks
from bundler.home.generation import VIEWS_FOLDER, view_path
from bundler.home.installed import InstalledBundle
from bundler.home.verify.installed import InstalledCheck, verify_installed
from bundler.plan.layout import Blob, Layout, RepoLayout


def build_view(
    hf_home: Path, name: str, digest: str, content: Layout, *, sources: Mapping[str, str | Path] | None = None
) -> list[tuple[str, str]]:
    """Make the view of a generation, or make it whole again; its content is in `hf_home`, verified.

    Args:
        hf_home: The cache root; its file system has symlinks.
        name: The bundle's name.
        digest: The bundle's digest.
        content: What the view must show.
        sources: sha256 -> verified file with that content, for prepared files. Others are looked for in the view and
            in the shared one, and hashed.

    Returns:
        (old path, new path) of each file that did not belong there and was moved.

    Raises:
        OSError: It cannot be written, or a prepared file is nowhere to be found; what was there is there still.
    """
    root = view_path(hf_home, name, digest)
    if root.is_dir():
        # A part of a bundle that grows; or damage, which is mended name by name where it can be.
        with contextlib.suppress(OSError):
            for repo in content.repos:
                _link_prepared(hf_home, root, repo, root, sources or {})
            if _is_whole(hf_home, root, content):
                return []
            for repo in content.repos:
                _link_blobs(hf_home, root, repo, root)
            publish(root, content, symlinks=True)
            if _is_whole(hf_home, root, content):
                return []
    # Something of somebody else's may be in the way.
    moved = [_move_aside(hf_home, root.parent)] if _is_no_folder(root.parent) else []
    # At the depth of its final name, so that what links lead to is the same.
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(root.parent)
    try:
        for repo in content.repos:
            _link_blobs(hf_home, root, repo, temporary)
            _link_prepared(hf_home, root, repo, temporary, sources or {})
            _write_names(temporary, repo)
        _sync_tree(str(temporary))
        if _is_no_folder(root):
            moved.append(_move_aside(hf_home, root))
        elif root.is_dir():
            moved += _clear(hf_home, root, temporary)
        remove_view(hf_home, name, digest)
        temporary.rename(root)
        fsync_dir(root.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return moved


def _is_whole(hf_home: Path, root: Path, content: Layout) -> bool:
    check = InstalledCheck(hf_home, root, content)
    return verify_installed(str(root), "", [check], quick=True).ok


def _is_no_folder(path: Path) -> bool:
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def _move_aside(hf_home: Path, path: Path) -> tuple[str, str]:
    below = path.relative_to(hf_home).as_posix()
    return below, move_aside(hf_home, below)


def _clear(hf_home: Path, root: Path, new: Path) -> list[tuple[str, str]]:
    """Move out of a view that is given up what the `new` one does not have: copies of what it has are no loss.

    What `datasets` computed moves into the new one.
    """
    moved = []
    for folder, folders, names in os.walk(root):
        for name in (*names, *folders):
            path = Path(folder, name)
            twin = new / path.relative_to(root)
            if path.is_dir() and not path.is_symlink():
                continue
            if path.is_symlink() or not path.is_file():
                are_links = path.is_symlink() and twin.is_symlink()
                if not are_links or (path.readlink() != twin.readlink() and path.resolve() != twin.resolve()):
                    moved.append(_move_aside(hf_home, path))
            elif twin.is_file():
                if not filecmp.cmp(path, twin, shallow=False):
                    moved.append(_move_aside(hf_home, path))
            elif path.is_relative_to(root / "datasets") and not os.path.lexists(twin):
                twin.parent.mkdir(parents=True, exist_ok=True)
                path.rename(twin)
            else:
                moved.append(_move_aside(hf_home, path))
    return sorted(moved)


def has_own_content(bundle: InstalledBundle, content: Layout) -> bool:
    """Tell whether some of `content` is in the view of `bundle`, or in a snapshot, other than by a link to it."""
    for repo in content.repos:
        paths = [file.path for file in repo.snapshots] + [path for path, _ in repo.alias_links()]
        if not all(inside(bundle.hf_home, path).is_symlink() for path in paths):
            return True
        for blob in repo.prepared if bundle.view != bundle.hf_home else ():
            place, shared = inside(bundle.view, blob.path), inside(bundle.hf_home, blob.path)
            if not (place.exists() and shared.exists() and place.samefile(shared)):
                return True
    return False


def has_no_loose_end(bundle: InstalledBundle) -> bool:
    """Tell whether a view looks whole by its names, and each prepared file has its size; the lock is not parsed."""
    for repo in bundle.names.repos:
        blobs = f"{bundle.view}/{repo.folder}/blobs"
        if os.path.lexists(blobs) and not os.path.islink(blobs):  # noqa: PTH114 -- strings, as above
            return False
        for commit in repo.trees:
            snapshot = f"{repo.folder}/snapshots/{commit}"
            if not _has_names_of(f"{bundle.hf_home}/{snapshot}", f"{bundle.view}/{snapshot}"):
                return False
        texts = [*repo.tree_paths(), *(text.path for text in repo.ref_texts())]
        if not all((bundle.view / path).is_file() for path in texts):
            return False
        if not all(os.path.lexists(bundle.view / path) for path, _ in repo.alias_links()):
            return False
        for blob in repo.prepared:
            place = inside(bundle.view, blob.path)
            if not place.is_file() or place.stat().st_size != blob.size_bytes:
                return False
    return True


def _has_names_of(shared: str, folder: str) -> bool:
    """Tell whether all below a snapshot in a view are links, and names in the shared one too; one a folder is followed.

    To follow all of 100,000 takes most of a second. The client's own tools delete the name when they delete content.
    """
    try:
        there = set(os.listdir(shared))  # noqa: PTH208 -- names alone, as above
        is_followed = False
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name not in there:
                    return False
                if entry.is_symlink():
                    if not is_followed and not entry.is_file():
                        return False
                    is_followed = True
                elif not entry.is_dir() or not _has_names_of(f"{shared}/{entry.name}", entry.path):
                    return False
    except OSError:
        return False
    return True


def remove_view(hf_home: Path, name: str, digest: str) -> int:
    """Delete a view: first its name, so that nobody sees half of one.

    Returns:
        Bytes of the content that had no other name.
    """
    root = view_path(hf_home, name, digest)
    gone = temporary_path(hf_home / VIEWS_FOLDER)
    freed = 0
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        root.rename(gone)
        with contextlib.suppress(OSError):
            lost = LostNames()
            freed = sum(lost.lose(f"{gone}/{path}") for path in list_view_content(gone))
        shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(OSError):
        root.parent.rmdir()
        root.parent.parent.rmdir()
    return freed


def list_view_content(root: Path) -> Iterator[str]:
    """Yield the paths in a view of all that may hold content: prepared files, what `datasets` computed, and copies.

    Raises:
        OSError: A folder may not be read.
    """
    yield from list_files(root, "datasets")
    for top in ("hub", "files"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / top) as entries:
            for repo in entries:
                # What is a link is content of the shared view.
                for part in () if repo.is_symlink() else ("blobs", "snapshots"):
                    if not os.path.islink(f"{repo.path}/{part}"):  # noqa: PTH114 -- strings, as above
                        yield from list_files(root, f"{top}/{repo.name}/{part}")


def _link_blobs(hf_home: Path, root: Path, repo: RepoLayout, written: Path) -> None:
    """Link to the shared content of a repo, from `root` but written below `written`, which will be renamed to it."""
    blobs = f"{repo.folder}/blobs"
    if not repo.blobs:
        return
    place = written / blobs
    place.parent.mkdir(parents=True, exist_ok=True)
    target = hf_home / blobs
    if written == root and os.path.lexists(place) and place.resolve() != target.resolve():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
    if not os.path.lexists(place):
        place.symlink_to(_find_way(hf_home, root / blobs, target))


def _find_way(hf_home: Path, place: Path, target: Path) -> str:
    """Return the text of a link at `place`, below a view that need not be there yet, to `target` in the same home."""
    root, folders = Path(os.path.realpath(hf_home)), place.parent.relative_to(hf_home)
    parent = Path(os.path.realpath(place.parent))
    if parent == root / folders:
        return os.path.relpath(target, place.parent)
    # `bundles`, or a folder in it, is a link to another disk, and `..` leads up from there.
    return os.path.relpath(root / target.relative_to(hf_home), parent)


def _link_prepared(
    hf_home: Path, root: Path, repo: RepoLayout, written: Path, sources: Mapping[str, str | Path]
) -> None:
    """Give the prepared files of a repo names below `written`, which is `root` or will be renamed to it."""
    for blob in repo.prepared:
        place = inside(written, blob.path)
        source = sources.get(blob.sha256)
        if place.exists() and (source is None or place.samefile(source) or _has_content(place, blob)):
            continue
        if source is None:
            # What stands at its path in the shared view may be another generation's.
            candidates = [inside(root, blob.path), inside(hf_home, blob.path)]
            source = next((path for path in candidates if _has_content(path, blob)), None)
        if source is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(inside(root, blob.path)))
        # A second name, and no link: what stands at its path in the shared view may become another bundle's.
        link_or_copy(source, place)


def _has_content(path: Path, blob: Blob) -> bool:
    try:
        return path.stat().st_size == blob.size_bytes and hash_file(path, "blake3").blake3 == blob.blake3
    except OSError:
        return False


def _write_names(root: Path, repo: RepoLayout) -> None:
    made: set[str] = set()

    def make_folder(path: str) -> None:
        folder = posixpath.dirname(path)
        if folder not in made:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103 -- strings: a Path for each of 100,000 files takes seconds
            made.add(folder)

    links = SnapshotLinks(root, repo)
    for file in repo.snapshots:
        path = f"{root}/{file.path}"
        make_folder(path)
        os.symlink(links.choose(file.path, file.blob.path), path)  # noqa: PTH211 -- as above
    for text in (*repo.markers, *repo.tree_texts(), *repo.ref_texts()):
        path = f"{root}/{text.path}"
        make_folder(path)
        Path(path).write_bytes(text.content)
    for path, target in repo.alias_links():
        make_folder(f"{root}/{path}")
        (root / path).symlink_to(target)


def _sync_tree(folder: str) -> None:
    """Write the files below a folder, and all names, to the disk."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _sync_tree(entry.path)
            elif not entry.is_symlink():
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
    fsync_dir(Path(folder))
