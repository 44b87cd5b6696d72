"""Chooses the `Source` for a path that a user names."""

from __future__ import annotations

from pathlib import Path

from bundler.errors import FormatError
from bundler.hub.folder_source import FolderSource
from bundler.hub.source import Source


def open_source(path: Path) -> Source:
    """Return the repos at `path`: a folder of plain repos, an installed cache, or a bundle file.

    Raises:
        FormatError: It is none of these.
        ManifestError: The folder's `hub.yaml` is malformed.
    """
    if path.is_dir():
        return FolderSource(path)
    raise FormatError(f"{path}: expected a folder of repos, an installed cache (HF_HOME) or a bundle")
