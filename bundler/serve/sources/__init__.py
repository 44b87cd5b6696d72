"""Where served repos come from, one module a kind; `open_source` chooses by what lies at a path."""

from __future__ import annotations

from bundler.errors import FormatError
from bundler.remote.address import Address, Place
from bundler.serve.source import RepoSource


def open_source(path: Place) -> RepoSource:
    """Return the repos at `path`: a folder of plain repos, an installed cache, or a bundle, by file or by address.

    Raises:
        FormatError: It is none of these, or a damaged bundle.
        ManifestError: The folder's `hub.yaml` is malformed.
    """
    from bundler.serve.sources.bundle import BundleSource
    from bundler.serve.sources.cache import CacheSource, cache_folder
    from bundler.serve.sources.folder import FolderSource

    if isinstance(path, Address):
        return BundleSource(path)
    if path.is_dir():
        if (hub_folder := cache_folder(path)) is not None:
            return CacheSource(hub_folder)
        return FolderSource(path)
    if path.is_file():
        return BundleSource(path)
    raise FormatError(
        f"{path}: expected a folder of repos, an installed cache (HF_HOME) or a bundle, found nothing"
    )
