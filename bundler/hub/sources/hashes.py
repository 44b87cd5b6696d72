"""Turns files on disk into files as the Hub publishes them: with their ids, hashed once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bundler.digest import hash_file
from bundler.hub.git_objects import lfs_pointer_id
from bundler.hub.source import ContentChangedError, ServedFile
from bundler.hub.sources.files import DiskFile, FileStamp
from bundler.hub.sources.lfs import LfsRule

# Hashing this much takes long enough for a person to wonder.
_LOG_FROM_BYTES = 256 << 20

_log = logging.getLogger(__name__)


class HashCache:
    """Remembers the ids of files for as long as their stamps stay the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, FileStamp, bool], ServedFile] = {}

    def served(self, files: Iterable[DiskFile], rule: LfsRule, *, what: str) -> dict[str, ServedFile]:
        """Return files with sizes and ids by path, in the order given; hash those that are new.

        Args:
            files: What `list_repo_files` found, or a part of it.
            rule: Tells the LFS files of this repo.
            what: Names the repo in the progress log.

        Raises:
            ContentChangedError: A file was written to while it was hashed.
        """
        jobs = [(file, rule(file.path, file.stamp.size_bytes)) for file in files]
        size = sum(f.stamp.size_bytes for f, is_lfs in jobs if (f.location, f.stamp, is_lfs) not in self._known)
        if size >= _LOG_FROM_BYTES:
            _log.info("%s: hashing %.1f GB, once ...", what, size / 1e9)
        # hashlib lets other threads run; more threads than cores would only seek more.
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            served = list(pool.map(lambda job: self._served(*job), jobs))
        if size >= _LOG_FROM_BYTES:
            _log.info("%s: hashed", what)
        return {file.path: file for file in served}

    def _served(self, file: DiskFile, is_lfs: bool) -> ServedFile:
        key = (file.location, file.stamp, is_lfs)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _hashed(file, is_lfs)
        # One file can lie at several paths, by links.
        return replace(known, path=file.path)


def _hashed(file: DiskFile, is_lfs: bool) -> ServedFile:
    try:
        digests = hash_file(file.location, "sha256" if is_lfs else "git_sha1")
        unchanged = FileStamp.of(file.location.lstat()) == file.stamp
    except OSError as error:
        raise ContentChangedError(f"{file.location}: cannot be read ({error.strerror})") from error
    if not unchanged:
        raise ContentChangedError(f"{file.location}: was written to while it was hashed; ask again")
    size = file.stamp.size_bytes
    blob_id = lfs_pointer_id(digests.sha256, size) if digests.sha256 else digests.git_sha1
    assert blob_id is not None
    return ServedFile(path=file.path, size_bytes=size, blob_id=blob_id, lfs_sha256=digests.sha256)
