"""Tokenized documents, kept by content: the same files, tokenizer and settings are tokenized once.

Rule book:

* an entry is the folder `CACHE/<fingerprint>`; it is made aside and renamed, so that what has that name is complete,
  and its `prepared.json` has the size of each file;
* one process at a time makes entries, others on the machine wait for it, and then find what it made: with several
  ranks on a node one tokenizes. An entry that is there is used without a lock, from a cache that is read-only, too;
* the digests of raw files are remembered with inode, size and times of the file, so that of many ranks one reads them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from bundler.errors import AccessError
from bundler.files.atomic import atomic_write, fsync_dir
from bundler.files.digest import hash_file
from infini_llama.errors import TrainingDataError

RECORD = "prepared.json"
DIGESTS = "digests.json"
LOCK = ".lock"
_INCOMING = ".incoming-"
# A file that was written to a moment ago may be written to again without its times telling.
_SETTLED_NANOSECONDS = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """What stands in `prepared.json`.

    Attributes:
        fingerprint: Digest of everything that the tokens depend on.
        documents: Good records.
        tokens: Of all documents.
        bad_records: Records that were left out.
        bad_examples: The first of them.
        token_type: numpy's name of the tokens' type.
        files: Size of each file of the entry.
    """

    fingerprint: str
    documents: int
    tokens: int
    bad_records: int
    bad_examples: list[str]
    token_type: str
    files: dict[str, int]


class TokenCache:
    """A folder of tokenized documents.

    Args:
        folder: Made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, fingerprint: str) -> Path:
        """Return where an entry stands, whether it is there or not."""
        return self._folder / fingerprint[:32]

    def find(self, fingerprint: str) -> CacheEntry | None:
        """Return an entry, or None if it is not there or not whole."""
        folder = self.place(fingerprint)
        try:
            entry = CacheEntry(**json.loads((folder / RECORD).read_bytes()))
            is_whole = all((folder / name).stat().st_size == size for name, size in entry.files.items())
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return entry if is_whole and entry.fingerprint == fingerprint else None

    @contextlib.contextmanager
    def make_entry(self) -> Iterator[Path]:
        """Hold the right to make entries, and yield an empty folder to make one in; it is removed again.

        Raises:
            AccessError: The cache cannot be written to.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder / LOCK)
            lock.acquire()
        except OSError as error:
            raise AccessError(
                f"{self._folder}: tokens cannot be kept here: {error.strerror}",
                hint="name a folder that can be written to: data.cache_dir; or tokenize beforehand with "
                "`infini-llama prepare`",
            ) from error
        try:
            for leftover in self._folder.glob(f"{_INCOMING}*"):
                shutil.rmtree(leftover)
            folder = self._folder / f"{_INCOMING}{os.getpid()}"
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()

    def publish(self, folder: Path, entry: CacheEntry) -> None:
        """Make a finished folder the entry of its fingerprint."""
        atomic_write(folder / RECORD, (json.dumps(asdict(entry), indent=1) + "\n").encode())
        final = self.place(entry.fingerprint)
        # What is there lost some of its bytes.
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
        fsync_dir(self._folder)

    def digests(self, paths: list[Path]) -> list[tuple[str, int]]:
        """Return SHA-256 and size of each file, from memory where the file is the one that was hashed.

        Raises:
            TrainingDataError: One cannot be read.
        """
        known = self._known_digests()
        found: list[tuple[str, int]] = []
        learnt: dict[str, Any] = {}
        for path in paths:
            try:
                status = path.stat()
                stamp = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
                name = str(path.resolve())
                remembered = known.get(name)
                if isinstance(remembered, list) and remembered[:-1] == stamp:
                    sha256 = remembered[-1]
                else:
                    sha256 = str(hash_file(path, "sha256").sha256)
                    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NANOSECONDS:
                        learnt[name] = [*stamp, sha256]
            except OSError as error:
                raise TrainingDataError(f"{path}: cannot be read: {error.strerror}") from error
            found.append((sha256, status.st_size))
        if learnt:
            # A convenience: where it cannot be written the next process hashes again.
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                atomic_write(self._folder / DIGESTS, json.dumps(known | learnt).encode())
        return found

    def _known_digests(self) -> dict[str, Any]:
        try:
            known = json.loads((self._folder / DIGESTS).read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
