"""Turns files on disk into files as the Hub publishes them: with their ids, hashed once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bundler.files.digest import hash_file
from bundler.plan.git_objects import lfs_pointer_id
from bundler.serve.source import ContentChangedError, ServedFile
from bundler.serve.sources.files import DiskFile, FileStamp
from bundler.serve.sources.lfs import LfsRule
from bundler.text.wording import size

# Hashing this much takes long enough for a person to wonder.
_LOG_FROM_BYTES = 256 << 20

# Longer than a tick of any file system's clock.
_YOUNG_NS = 2_000_000_000

_log = logging.getLogger(__name__)


# Where a file lies, its state, and whether it is hashed as an LFS file.
_Key = tuple[str, FileStamp, bool]


class HashCache:
    """Remembers the ids of files for as long as their stamps stay the same."""

    def __init__(self) -> None:
        self._known: dict[_Key, ServedFile] = {}
        # What was changed so shortly before it was hashed that it is hashed once more.
        self._young: set[_Key] = set()

    def identify(self, files: Iterable[DiskFile], rule: LfsRule, *, what: str) -> dict[str, ServedFile]:
        """Return files with sizes and ids by path, in the order given; hash those that are new.

        Args:
            files: What `list_repo_files` found, or a part of it.
            rule: Tells the LFS files of this repo.
            what: Names the repo in the progress log.

        Raises:
            ContentChangedError: A file was written to while it was hashed.
        """
        wanted: list[tuple[DiskFile, _Key]] = []
        new: dict[_Key, tuple[DiskFile, bool]] = {}
        for file in files:
            is_lfs = rule(file.path, file.stamp.size_bytes)
            key = (file.location, file.stamp, is_lfs)
            wanted.append((file, key))
            if key not in self._known or key in self._young:
                new[key] = (file, is_lfs)
        if new:
            self._hash(new, what)
        return {file.path: _at(file.path, self._known[key]) for file, key in wanted}

    def _hash(self, new: Mapping[_Key, tuple[DiskFile, bool]], what: str) -> None:
        begun = time.time_ns()
        total = sum(file.stamp.size_bytes for file, _ in new.values())
        if total >= _LOG_FROM_BYTES:
            _log.info("%s: hashing %s, once ...", what, size(total))
        # hashlib lets other threads run; more threads than cores would only seek more.
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            self._known.update(zip(new, pool.map(lambda job: _identify(*job), new.values()), strict=True))
        # A file may be written to twice within a tick of the file system's clock, and the stamp not show it.
        young = {key for key in new if abs(begun - key[1].changed_ns) < _YOUNG_NS}
        self._young = (self._young - new.keys()) | young
        if total >= _LOG_FROM_BYTES:
            _log.info("%s: hashed", what)


def _at(path: str, served: ServedFile) -> ServedFile:
    # One file can lie at several paths, by links.
    return served if served.path == path else replace(served, path=path)


def _identify(file: DiskFile, is_lfs: bool) -> ServedFile:
    try:
        digests = hash_file(Path(file.location), "sha256" if is_lfs else "git_sha1")
        unchanged = FileStamp.of(os.lstat(file.location)) == file.stamp
    except OSError as error:
        raise ContentChangedError(f"{file.location}: cannot be read ({error.strerror})") from error
    if not unchanged:
        raise ContentChangedError(f"{file.location}: was written to while it was hashed; ask again")
    size_bytes = file.stamp.size_bytes
    blob_id = lfs_pointer_id(digests.sha256, size_bytes) if digests.sha256 else digests.git_sha1
    assert blob_id is not None
    return ServedFile(path=file.path, size_bytes=size_bytes, blob_id=blob_id, lfs_sha256=digests.sha256)
