"""What the links of a snapshot say: either of two texts that lead to the same blob.

    ../../blobs/<etag>                        as the libraries make them
    ../../../models--ns--name/blobs/<etag>    by the name of the repo's own folder

The client of the Hub joins a link's text to the path of the link, and follows nothing. A repo that has another name is
seen twice by it, once through the link of that name, and with the first text each blob has two paths and is counted
twice. With the second it has one. So repos with other names get the second, and both are right wherever they are found.
The second leads nowhere if the repo's folder is itself a link to a folder of another name: there it is not used.
"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from bundler.plan.layout import RepoLayout
from bundler.plan.names import snapshot_link_target


class SnapshotLinks:
    """The links of one repo, below one root.

    Args:
        root: The cache root, or the root of a view.
        repo: The repo; its folder need not be there.
    """

    def __init__(self, root: Path, repo: RepoLayout) -> None:
        real = os.path.realpath(f"{root}/{repo.folder}")
        by_name = os.path.realpath(f"{posixpath.dirname(real)}/{posixpath.basename(repo.folder)}")
        self._has_name = by_name == real
        self._has_other_names = bool(repo.aliases)

    def choose(self, path: str, blob_path: str) -> str:
        """Return what a link is made with.

        Args:
            path: The link, below the root, in the repo's folder or in one of another name.
            blob_path: The blob.
        """
        if self._has_name and self._has_other_names:
            return _name_blob(path, blob_path)
        return snapshot_link_target(path, blob_path)

    def accepts(self, path: str, blob_path: str, target: str) -> bool:
        """Tell whether a link that says `target` is right."""
        if target == snapshot_link_target(path, blob_path):
            return True
        return self._has_name and target == _name_blob(path, blob_path)


def _name_blob(path: str, blob_path: str) -> str:
    # Both are below `hub/`, which a link at `hub/FOLDER/snapshots/COMMIT/FILE` is three folders away from.
    return f"{'../' * (path.count('/') - 1)}{blob_path.removeprefix('hub/')}"
