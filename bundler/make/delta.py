"""The base of a delta: contents that are already on the offline machine.

A delta bundle holds the whole lock and all names, and only the content that its base lacks. The base is named by any
of three files: the bundle that was carried over before, its lock, or the receipt `HF_HOME/bundles/NAME.json` brought
back from the offline side. All three hold a complete lock, and only its content matters: no file is looked into.

A base is read, and never written over: a delta in its place would be of no use to anybody.
"""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from bundler.errors import FormatError, UsageError
from bundler.files.digest import sha256_bytes
from bundler.format.base_records import BaseRecord
from bundler.format.contents.bases import MIN_BASE_BYTES
from bundler.format.find import find_bundle
from bundler.format.reader import BundleReader
from bundler.format.storage.destinations import Destination
from bundler.format.storage.volume_names import volume_base, volume_files
from bundler.format.tar import omitted_text
from bundler.home.lock_source import open_file
from bundler.plan.layout import Blob, layout
from bundler.plan.lock import Lock
from bundler.remote.address import Address, Place


@dataclass(frozen=True)
class Base:
    """Contents that a delta can leave out.

    Attributes:
        name: The bundle's name.
        digest: The digest that an installation of it has; None where only its lock is known.
        contents: SHA-256 of all its blobs and prepared files.
        blobs: These.
        bundle: Where content of it can be read; None where only its lock is known.
    """

    name: str
    digest: str | None
    contents: frozenset[str]
    blobs: tuple[Blob, ...] = field(default=(), compare=False)
    bundle: Place | None = field(default=None, compare=False)

    @classmethod
    def open(cls, path: Place) -> Base:
        """Read a base from a bundle or its address, a lock or a receipt.

        Raises:
            UsageError: `path` is not a regular file; a bundle in a pipe cannot be read from its end.
            FormatError: It is a damaged bundle, or does not exist.
            IntegrityError: It is a receipt that was changed.
            LockError: It is a lock that is malformed or not completed by a fetch, or none of the three.
        """
        if isinstance(path, Path):
            _check_file(path)
        source = open_file(path)
        blobs = tuple(layout(source.lock).blobs)
        contents = frozenset(blob.sha256 for blob in blobs)
        bundle = None if source.bundle_bytes is None else path
        return cls(source.lock.name, source.digest, contents, blobs, bundle)

    def changed_from(self, lock: Lock) -> list[Blob]:
        """Return the contents of this base that `lock` has not, and that weights of it may be differences from."""
        there = {blob.sha256 for blob in layout(lock).blobs}
        return [blob for blob in self.blobs if blob.sha256 not in there and blob.size_bytes >= MIN_BASE_BYTES]

    def open_bundle(self) -> AbstractContextManager[BundleReader | None]:
        """Open the bundle, in which content can be read; None where there is only a lock.

        Raises:
            FormatError: It is no longer what it was.
        """
        return nullcontext() if self.bundle is None else BundleReader(find_bundle([self.bundle]))

    def omitted_from(self, lock: Lock) -> frozenset[str]:
        """Return the contents of `lock` that this base has."""
        return self.contents & {blob.sha256 for blob in layout(lock).blobs}

    def record(self, omitted: frozenset[str]) -> BaseRecord:
        """Return the record of this base for a delta."""
        text = omitted_text(omitted)
        return BaseRecord(self.name, self.digest, len(text), sha256_bytes(text))


def check_base_stays(base: Place, destination: Destination, lock: Path) -> None:
    """Make sure that a fetch writes over nothing of its base, by whatever name or link.

    Args:
        base: The base, as for `Base.open`.
        destination: Where the delta goes.
        lock: The lock that the fetch writes.

    Raises:
        UsageError: It would.
    """
    if isinstance(base, Address):
        return
    volumes_of = volume_base(base) or base
    files = [base, volumes_of, *volume_files(volumes_of)]
    written = [destination.path, *destination.replaces()]
    if over := next((path for path in written if any(_is_same(path, file) for file in files)), None):
        raise UsageError(
            f"the delta would be written over its base: {over} is {base}, or volumes of it",
            hint="name another file with --output",
        )
    if _is_same(lock, base):
        raise UsageError(
            f"base {base} is the lock that this fetch goes by and writes: the delta would leave out everything",
            hint="name the bundle carried over before, its receipt, or a copy of its lock from that time",
        )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        # Not Path.resolve, which ends in a RuntimeError where a link leads to itself.
        return os.path.realpath(one) == os.path.realpath(other)


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
