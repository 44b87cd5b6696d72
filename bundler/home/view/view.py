"""The view of one generation: a folder like an HF_HOME, which no other installation can change.

    hub/models--ns--name/blobs              link to the folder of that name in the shared view: content is there once
    hub/models--ns--name/snapshots/…        links to `../../blobs/<etag>`, as the libraries make them
    hub/models--ns--name/{refs,trees,.no_exist}
    hub/models--alias                       link to models--ns--name
    datasets/ns___name/…                    hard links to the prepared files, or copies where there are none

All of it follows from the lock, so that `bundler.home.verify` checks a view as it checks a home. A new view is made
under a temporary name and renamed whole; one that is there is mended name by name, since jobs may be reading it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import shutil
from collections.abc import Mapping
from pathlib import Path

from bundler.files.atomic import fsync_dir, temporary_path
from bundler.files.links import link_or_copy
from bundler.files.paths import inside
from bundler.home.common.publish import publish
from bundler.home.common.set_aside import move_aside
from bundler.home.generation import VIEWS_FOLDER, view_path
from bundler.home.verify.installed import InstalledCheck, verify_installed
from bundler.plan.layout import Layout, RepoLayout, snapshot_link_target


def build_view(
    hf_home: Path, name: str, digest: str, content: Layout, *, sources: Mapping[str, Path] | None = None
) -> Path:
    """Make the view of a generation, or make it whole again; its content is in `hf_home`, verified.

    Args:
        hf_home: The cache root; its file system has symlinks.
        name: The bundle's name.
        digest: The bundle's digest.
        content: What the view must show.
        sources: sha256 -> file with that content, for prepared files that are not in the shared view.

    Returns:
        Its root.
    """
    root = view_path(hf_home, name, digest)
    if root.is_dir():
        if _is_whole(hf_home, root, content):
            return root
        # A part of a bundle that grows; or damage, which is mended name by name where it can be.
        with contextlib.suppress(OSError):
            for repo in content.repos:
                _link_content(hf_home, root, repo, root, sources or {})
            publish(root, content, symlinks=True)
            if _is_whole(hf_home, root, content):
                return root
    # Not beside the staging folders, which the next installation takes over.
    (hf_home / VIEWS_FOLDER).mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(hf_home / VIEWS_FOLDER)
    try:
        for repo in content.repos:
            _link_content(hf_home, root, repo, temporary, sources or {})
            _write_names(temporary, repo)
        for folder, _, names in os.walk(temporary, topdown=False):
            for file in names:
                _sync_file(Path(folder, file))
            fsync_dir(Path(folder))
        if os.path.lexists(root):
            # Something of somebody else's is in it.
            move_aside(hf_home, root.relative_to(hf_home).as_posix())
        if os.path.lexists(root.parent) and not root.parent.is_dir():
            move_aside(hf_home, root.parent.relative_to(hf_home).as_posix())
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(root)
        fsync_dir(root.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return root


def _is_whole(hf_home: Path, root: Path, content: Layout) -> bool:
    check = InstalledCheck(hf_home, root, content)
    return verify_installed(str(root), "", [check], quick=True).ok


def remove_view(hf_home: Path, name: str, digest: str) -> None:
    """Delete a view: first its name, so that nobody sees half of one."""
    root = view_path(hf_home, name, digest)
    gone = temporary_path(hf_home / VIEWS_FOLDER)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        root.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(OSError):
        root.parent.rmdir()
        root.parent.parent.rmdir()


def _link_content(hf_home: Path, root: Path, repo: RepoLayout, written: Path, sources: Mapping[str, Path]) -> None:
    """Link to the shared content of a repo, from `root` but written below `written`, which will be renamed to it."""
    blobs = f"{repo.folder}/blobs"
    if repo.blobs:
        place = written / blobs
        place.parent.mkdir(parents=True, exist_ok=True)
        target = hf_home / blobs
        if written == root and os.path.lexists(place) and place.resolve() != target.resolve():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
        if not os.path.lexists(place):
            place.symlink_to(os.path.relpath(target, (root / blobs).parent))
    for blob in repo.prepared:
        place = inside(written, blob.path)
        if not place.exists():
            # A second name, and no link: what stands at its path in the shared view may become another bundle's.
            link_or_copy(sources.get(blob.sha256, inside(hf_home, blob.path)), place)


def _write_names(root: Path, repo: RepoLayout) -> None:
    made: set[str] = set()

    def make_folder(path: str) -> None:
        folder = posixpath.dirname(path)
        if folder not in made:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103 -- strings: a Path for each of 100,000 files takes seconds
            made.add(folder)

    for file in repo.snapshots:
        path = f"{root}/{file.path}"
        make_folder(path)
        os.symlink(snapshot_link_target(file.path, file.blob.path), path)  # noqa: PTH211 -- as above
    for text in (*repo.markers, *repo.tree_texts(), *repo.ref_texts()):
        path = f"{root}/{text.path}"
        make_folder(path)
        Path(path).write_bytes(text.content)
    for path, target in repo.alias_links():
        make_folder(f"{root}/{path}")
        (root / path).symlink_to(target)


def _sync_file(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
