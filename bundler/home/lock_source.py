"""Where a complete lock can be read: a bundle, a lock file, a receipt, or a generation that is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.errors import FormatError, NotInstalledError
from bundler.format.find import find_bundle
from bundler.format.reader import BundleReader
from bundler.home.home import Home
from bundler.home.receipt import read_receipt
from bundler.plan.lock import Lock
from bundler.plan.lockfile import read_lock
from bundler.remote.address import Place


@dataclass(frozen=True, kw_only=True)
class LockSource:
    """A lock, and what it was read from.

    Attributes:
        label: What to call it.
        lock: The lock; of a bundle that was installed in part, that of the part.
        digest: The digest that an installation has; None where only a lock is known.
        bundle_bytes: Length of the bundle file; None where it is none.
    """

    label: str
    lock: Lock
    digest: str | None
    bundle_bytes: int | None = None


def open_file(path: Place) -> LockSource:
    """Read the lock of a bundle (a file, volumes or an address), a receipt (``.json``), or a lock (``.lock``).

    Raises:
        FormatError: A bundle, but damaged; or there is no such file.
        IntegrityError: A receipt, but changed.
        LockError: A lock, but malformed.
    """
    if isinstance(path, Path) and path.suffix == ".json":
        try:
            receipt = read_receipt(path)
        except FileNotFoundError:
            raise FormatError(f"{path}: expected a receipt, found no such file") from None
        return LockSource(label=str(path), lock=receipt.lock, digest=receipt.digest)
    if isinstance(path, Path) and path.suffix == ".lock":
        lock = read_lock(path)
        if lock is None:
            raise FormatError(f"{path}: expected a lock, found no such file")
        return LockSource(label=str(path), lock=lock, digest=None)
    with BundleReader(find_bundle([path])) as reader:
        return LockSource(
            label=str(path), lock=reader.lock, digest=reader.whole_digest, bundle_bytes=reader.size_bytes
        )


def open_generation(text: str, hf_home: Path) -> LockSource:
    """Read the lock of what is installed.

    Args:
        text: ``NAME`` for the current generation, or ``NAME@DIGEST`` with the first digits of one.
        hf_home: Where.

    Raises:
        NotInstalledError: There is none, or not just one; those that are there are named.
        IntegrityError: A receipt was changed.
    """
    name, _, start = text.partition("@")
    home = Home(hf_home)
    if not start:
        bundle = home.bundle(name)
    else:
        wanted = start if start.startswith("sha256:") else f"sha256:{start}"
        generations = home.generations(name)
        found = [each for each in generations if each.digest.startswith(wanted)]
        if len(found) != 1:
            there = ", ".join(each.digest[:19] for each in generations) or "none"
            raise NotInstalledError(
                f"bundle {name} in {hf_home}: expected one generation that begins with {start!r}, found "
                f"{len(found)}; there are: {there}",
                hint=f"{name}@DIGEST, with enough digits of one of these",
            )
        [bundle] = found
    return LockSource(label=f"{text} in {hf_home}", lock=bundle.lock, digest=bundle.digest)
