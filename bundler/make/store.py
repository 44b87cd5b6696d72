"""The store: verified blobs by etag, and partial downloads that stay when a process is killed.

    blobs/<first two>/<etag>         content, under its etag on the Hub
    blobs/<first two>/<etag>.json    its size and digests when it was checked
    partial/<etag>.<owner>           a download that is not finished, or not checked (`bundler.make.staging.partial`)
    prepared/<key>.json              which stored blobs make up a prepared dataset (`bundler.make.proof.prepared`)
    proven/<key>.json                a successful proof (`bundler.make.proof.proven`)
    packed/<key>.json                the digest of a bundle that was packed from here (`bundler.make.pack_once`)
    work/                            caches for a proof (`bundler.make.staging.work`), and what is encoded ahead

Rule book:

* a blob gets its final name only after its digests were compared with its etag. Its record is written first, so a blob
  without a record is damaged or unknown, and is not used;
* a blob from an earlier run is used only after its BLAKE3 was computed again (`find_verified`).

The store uses no network, and knows nothing about repos or locks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bundler.files.atomic import atomic_write
from bundler.files.digest import Digests, hash_file, sha256_bytes
from bundler.files.leftovers import remove_leftovers
from bundler.make.staging.partial import ORPHAN_SECONDS, Partial, PartialFolder
from bundler.make.staging.work import clear_work_folders, make_work_folder

RecordKind = Literal["prepared", "proven", "packed"]

_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredBlob:
    """The record of a blob in the store.

    Attributes:
        etag: SHA-256 of an LFS file or a prepared file, git blob SHA-1 of any other.
        size_bytes: Length of the content.
        sha256: SHA-256 of the content.
        blake3: BLAKE3 of the content.
        git_sha1: Git blob SHA-1 of the content; None if the etag is a SHA-256.
    """

    etag: str
    size_bytes: int
    sha256: str
    blake3: str
    git_sha1: str | None = None

    @classmethod
    def of(cls, etag: str, digests: Digests) -> StoredBlob:
        """Return the record for content with these digests."""
        assert digests.sha256 and digests.blake3, "a stored blob has both digests"
        return cls(
            etag=etag,
            size_bytes=digests.size_bytes,
            sha256=digests.sha256,
            blake3=digests.blake3,
            git_sha1=digests.git_sha1,
        )

    @property
    def is_named_by_content(self) -> bool:
        """Whether the etag is really the digest of the content."""
        return self.etag == (self.sha256 if len(self.etag) == 64 else self.git_sha1)


class Store:
    """A folder of verified blobs (see the module's text).

    Args:
        root: The folder.
        make: Make it when missing; without, it is only looked into.
    """

    def __init__(self, root: Path, *, make: bool = True) -> None:
        self.root = root
        if make:
            self.make()
        self._partials = PartialFolder(root / "partial")

    def make(self) -> None:
        """Make the folders, where they are missing."""
        for name in ("blobs", "partial", "prepared", "proven", "packed", "work"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @classmethod
    def default_root(cls, option: Path | None = None) -> Path:
        """Return the first that is set of `option`, BUNDLE_CACHE, XDG_CACHE_HOME/bundle and `~/.cache/bundle`."""
        if option is not None:
            return option.expanduser().absolute()
        if chosen := os.environ.get("BUNDLE_CACHE"):
            return Path(chosen).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "bundle"

    # Blobs

    def path(self, etag: str) -> Path:
        """Return the path of the blob `etag`, whether it exists or not.

        Raises:
            ValueError: `etag` is not 40 or 64 lower-case hex digits.
        """
        if not _ETAG.fullmatch(etag):
            raise ValueError(f"expected an etag of 40 or 64 hex digits, found {etag[:80]!r}")
        return self.root / "blobs" / etag[:2] / etag

    def open(self, etag: str) -> BinaryIO:
        """Open a blob for reading; the caller closes it.

        Raises:
            FileNotFoundError: There is no such blob.
        """
        return self.path(etag).open("rb")

    def find(self, etag: str) -> StoredBlob | None:
        """Return the record of a blob, without reading its content; None if blob or record is missing or damaged."""
        path = self.path(etag)
        try:
            record = StoredBlob(**json.loads(_record_path(path).read_bytes()))
            size_bytes = path.stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        if record.etag != etag or record.size_bytes != size_bytes or not record.is_named_by_content:
            return None
        return record

    def find_verified(self, etag: str) -> StoredBlob | None:
        """Hash a blob and return its record; None if it is missing or damaged.

        The record of a damaged blob is deleted, so that no process uses the blob; the next download replaces its
        content. The content is not deleted here, because another process may just have replaced it.
        """
        record = self.find(etag)
        if record is not None:
            try:
                if hash_file(self.path(etag), "blake3").blake3 == record.blake3:
                    # When it was used last, for `bundler.make.cache.staged`. In a store of several users it may be
                    # another's, which says nothing of the content.
                    with contextlib.suppress(OSError):
                        os.utime(_record_path(self.path(etag)))
                    return record
            except OSError:
                # A read error counts as damage: the content will be fetched again.
                pass
            _record_path(self.path(etag)).unlink(missing_ok=True)
        return None

    def adopt(self, path: Path, blob: StoredBlob) -> StoredBlob:
        """Move a checked file on this file system to its final name.

        Args:
            path: The file; it is moved.
            blob: Its record, with the digests of exactly these bytes.

        Raises:
            ValueError: The etag is not the digest of the content; later runs would use the wrong bytes.
        """
        if not blob.is_named_by_content:
            raise ValueError(f"blob {blob.etag} does not have the content that its name promises")
        final = self.path(blob.etag)
        # Not synced: if a power failure damages one of the two, `find` or `find_verified` will find that.
        atomic_write(_record_path(final), json.dumps(asdict(blob)).encode(), sync=False)
        path.replace(final)
        return blob

    # Partial downloads

    def partial(
        self, etag: str, content_bytes: int, *, patience_seconds: float = 60.0
    ) -> AbstractContextManager[Partial | None]:
        """Own the partial download of `etag`, which is `content_bytes` long (see `PartialFolder.own`).

        Yields:
            The file, or None if another process has stored the blob meanwhile. A file not adopted when the block
            ends stays for the next run.
        """
        self.path(etag)
        return self._partials.own(
            etag,
            content_bytes,
            is_stored=lambda: self.find(etag) is not None,
            patience_seconds=patience_seconds,
        )

    def partial_bytes(self, etag: str, content_bytes: int) -> int:
        """Return how many bytes of `etag`, which is `content_bytes` long, an earlier run left."""
        return self._partials.size_bytes(etag, content_bytes)

    # Records, work folders, room

    def record(self, kind: RecordKind, key: str) -> Any:
        """Return the value that `keep_record` stored under `key`; None if there is none."""
        try:
            return json.loads(self._kept_path(kind, key).read_bytes())
        except (OSError, ValueError):
            return None

    def keep_record(self, kind: RecordKind, key: str, value: Any) -> None:
        """Store a JSON value under `key`, which may be any text."""
        atomic_write(self._kept_path(kind, key), json.dumps(value, indent=1).encode())

    def _kept_path(self, kind: RecordKind, key: str) -> Path:
        return self.root / kind / f"{sha256_bytes(key.encode())}.json"

    def work_folder(self) -> AbstractContextManager[Path]:
        """Make an empty folder on the store's file system, so that hard links work; remove it when the block ends."""
        return make_work_folder(self.root / "work")

    def clear_work(self) -> None:
        """Remove the work folders of killed processes."""
        clear_work_folders(self.root / "work")

    def sweep(self) -> None:
        """Delete files of killed runs that no run will use again; call this before this process writes."""
        now = time.time()
        self.clear_work()
        for name in ("blobs", "prepared", "proven", "packed"):
            remove_leftovers(self.root / name, now=now)
        for path in (self.root / "blobs").glob("??/*"):
            if path.suffix != ".json" and not _record_path(path).exists():
                with contextlib.suppress(FileNotFoundError):
                    if now - path.stat().st_mtime > ORPHAN_SECONDS:
                        path.unlink()
        self._partials.sweep(now)


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
