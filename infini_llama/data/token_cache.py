"""Keep tokenized documents by content: the same files, tokenizer and settings are tokenized only once.

Rule book:

* an entry is the folder `CACHE/<fingerprint>`. It is made under another name and then renamed, so it is complete; its
  `prepared.json` has the size of each file;
* only one process makes entries; others on the machine wait for it, and then use its result. So one of several ranks on
  a node tokenizes. An existing entry is used without a lock, also from a read-only cache;
* the digests of raw files are kept with the file's inode, size and times, so that only one of many ranks reads them.
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
# A file that was changed just now may be changed again without a change of its times, so its digest is not kept.
_SETTLED_NANOSECONDS = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """The content of `prepared.json`.

    Attributes:
        fingerprint: Digest of everything that the tokens depend on.
        documents: Number of good records.
        tokens: Number of tokens of all documents.
        bad_records: Number of records that were left out.
        bad_examples: The first of them.
        token_type: numpy's name of the integer type of the tokens.
        files: Name -> size in bytes of each file of the entry.
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
        folder: The folder; created at the first write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, fingerprint: str) -> Path:
        """Return the folder of an entry, whether it exists or not."""
        return self._folder / fingerprint[:32]

    def find(self, fingerprint: str) -> CacheEntry | None:
        """Return an entry; None if it does not exist or is not complete."""
        folder = self.place(fingerprint)
        try:
            entry = CacheEntry(**json.loads((folder / RECORD).read_bytes()))
            is_whole = all((folder / name).stat().st_size == size for name, size in entry.files.items())
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return entry if is_whole and entry.fingerprint == fingerprint else None

    @contextlib.contextmanager
    def make_entry(self) -> Iterator[Path]:
        """Lock the cache for making entries, and yield an empty folder for a new one; both end with the block.

        Raises:
            AccessError: The cache cannot be written to.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder / LOCK)
            lock.acquire()
        except OSError as error:
            raise AccessError(
                f"{self._folder}: tokens cannot be written here: {error.strerror}",
                hint="name a folder that can be written to with data.cache_dir, or tokenize earlier with "
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
        """Rename a finished folder to the name of its entry."""
        atomic_write(folder / RECORD, (json.dumps(asdict(entry), indent=1) + "\n").encode())
        final = self.place(entry.fingerprint)
        # The old entry is not complete any more.
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
        fsync_dir(self._folder)

    def digests(self, paths: list[Path]) -> list[tuple[str, int]]:
        """Return (SHA-256, size in bytes) of each file; files that did not change are not hashed again.

        Raises:
            TrainingDataError: A file cannot be read.
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
            # If this cannot be written, the next process only has to hash the files again.
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
