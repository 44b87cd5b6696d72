"""The base of a delta: contents that are already on the offline machine.

A delta holds the whole lock and all names, but only the content that its base lacks. Any of three files can name the
base: the bundle that was carried over before, its lock, or the receipt `HF_HOME/bundles/NAME.json` from the offline
machine. All three hold a complete lock, and only this lock is used.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import FormatError, LockError, UsageError
from bundler.files.digest import sha256_bytes
from bundler.format.index import BaseRecord
from bundler.format.reader import BundleReader
from bundler.format.storage.volumes import volume_files
from bundler.format.tar import omitted_text
from bundler.home.receipt import read_receipt
from bundler.plan.layout import layout
from bundler.plan.lock import Lock


@dataclass(frozen=True)
class Base:
    """Contents that a delta can leave out.

    Attributes:
        name: The bundle's name.
        digest: The bundle's digest; None if only its lock is known.
        contents: SHA-256 of all its blobs and prepared files.
    """

    name: str
    digest: str | None
    contents: frozenset[str]

    @classmethod
    def open(cls, path: Path) -> Base:
        """Read a base from a bundle, a lock or a receipt.

        Raises:
            UsageError: `path` is not a regular file; a bundle in a pipe cannot be read from its end.
            FormatError: It is a damaged bundle, or does not exist.
            IntegrityError: It is a receipt that was changed.
            LockError: It is a lock that is malformed or not completed by a fetch, or none of the three.
        """
        _check_file(path)
        if path.suffix == ".json":
            receipt = read_receipt(path)
            return cls._of(receipt.lock, receipt.digest)
        if path.suffix == ".lock":
            try:
                return cls._of(Lock.loads(path.read_text("utf-8"), source=str(path)), None)
            except UnicodeDecodeError as error:
                raise LockError(f"base {path}: expected a lock in UTF-8: {error}") from error
        with BundleReader(path) as reader:
            return cls._of(reader.lock, reader.digest)

    @classmethod
    def _of(cls, lock: Lock, digest: str | None) -> Base:
        return cls(lock.name, digest, frozenset(blob.sha256 for blob in layout(lock).blobs))

    def omitted_from(self, lock: Lock) -> frozenset[str]:
        """Return the contents of `lock` that this base has."""
        return self.contents & {blob.sha256 for blob in layout(lock).blobs}

    def record(self, omitted: frozenset[str]) -> BaseRecord:
        """Return the record of this base for a delta."""
        text = omitted_text(omitted)
        return BaseRecord(self.name, self.digest, len(text), sha256_bytes(text))


def _check_file(path: Path) -> None:
    expected = "expected the bundle carried over before, its lock, or its receipt"
    if str(path) == "-":
        raise UsageError(
            f"base -: {expected}, found standard input; a bundle is read from its end, which a pipe cannot do",
            hint="name the lock beside its manifest, or the receipt HF_HOME/bundles/NAME.json: they are small",
        )
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if volume_files(path):
            return
        raise FormatError(f"base {path}: {expected}, found no such file") from None
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise UsageError(
            f"base {path}: {expected}, found {found}",
            hint="name a file: a bundle is read from its end, which a pipe cannot do",
        )
