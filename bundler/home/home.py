"""An `HF_HOME`, opened once by a command: which bundles are installed in it, and which of them share folders.

Rule book:

* a receipt is read once, and again only when the file has changed since; a layout is computed once;
* of a bundle that has nothing in common with the one at hand only the seal of its receipt is checked: work for one
  bundle does not grow with what else is installed;
* nothing here writes. Who decides something by what it read here, and writes, holds `bundler.home.exclusive`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bundler.errors import BundleError, IntegrityError, LockError, NotInstalledError
from bundler.home.installed import InstalledBundle
from bundler.home.receipt import Receipt, receipt_path
from bundler.plan.layout import BUNDLES_FOLDER, Layout, repo_id_of
from bundler.plan.lock import Lock
from bundler.plan.names import is_bundle_name
from bundler.text.wording import close_matches

OnDamage = Callable[[BundleError], None]


def ignore_damage(error: BundleError) -> None:
    """Pass over a receipt that cannot be used."""


@dataclass
class _Opened:
    """A receipt as it was read, and what was made of it."""

    stamp: tuple[int, int, int]
    receipt: Receipt
    bundle: InstalledBundle | None = field(default=None)


class Home:
    """What is installed in one HF_HOME.

    Args:
        path: The cache root; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[str, _Opened] = {}

    def names(self) -> list[str]:
        """Return the names of installed bundles, sorted; receipts are not read."""
        try:
            names = [entry.name for entry in os.scandir(self.path / BUNDLES_FOLDER)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def bundle(self, name: str) -> InstalledBundle:
        """Open an installed bundle by name.

        Raises:
            NotInstalledError: There is none of that name; close names are given.
            IntegrityError: Its receipt was changed.
            LockError: The lock in its receipt is malformed.
        """
        if not is_bundle_name(name):
            raise NotInstalledError(
                f"{name!r} is no bundle name: expected lower-case letters, digits, '.', '_', '-'"
            )
        try:
            opened = self._open(name)
        except (FileNotFoundError, NotADirectoryError):
            names = self.names()
            close = close_matches(name, names)
            known = f"installed are: {', '.join(names)}" if names else "none is installed there"
            raise NotInstalledError(
                f"no bundle {name!r} in {self.path}; {known}",
                hint=f"did you mean {close[0]!r}?" if close else "install one with `bundle install FILE`",
            ) from None
        if opened.bundle is None:
            receipt = opened.receipt
            opened.bundle = self.make_installed(receipt.lock, receipt.digest, receipt.left_out)
        return opened.bundle

    def make_installed(self, lock: Lock, digest: str, left_out: tuple[str, ...] = ()) -> InstalledBundle:
        """Return the bundle that a receipt with this content describes; nothing is read or written."""

        def find_neighbours(content: Layout) -> dict[str, Layout]:
            found = self.neighbours([content], besides=lock.name, on_damage=ignore_damage)
            return {bundle.name: bundle.layout for bundle in found}

        return InstalledBundle(self.path, lock, digest, left_out, find_neighbours)

    def bundles(self, *, on_damage: OnDamage | None = None) -> list[InstalledBundle]:
        """Open every installed bundle, in name order.

        Args:
            on_damage: Called for a receipt that cannot be used; by default the error is raised.

        Raises:
            IntegrityError: A receipt was changed, and there is no `on_damage`.
            LockError: A receipt holds a malformed lock, and there is no `on_damage`.
        """
        return list(self._open_each(self.bundle, on_damage))

    def neighbours(
        self,
        contents: Iterable[Layout],
        *,
        besides: str,
        blobs: Iterable[str] = (),
        on_damage: OnDamage | None = None,
    ) -> list[InstalledBundle]:
        """Open those bundles but `besides` that have a folder in common with one of `contents`.

        Args:
            contents: Layouts of the bundle at hand.
            besides: Its name.
            blobs: Paths of blobs whose repos count too.
            on_damage: Called for a receipt that cannot be used; by default the error is raised.

        Raises:
            IntegrityError: A receipt was changed, and there is no `on_damage`.
            LockError: A receipt holds a malformed lock, and there is no `on_damage`.
        """
        repos = [repo for content in contents for repo in content.repos]
        texts = {name for repo in repos for name in (repo.repo_id, *repo.aliases)}
        texts |= {repo_id_of(blob.split("/")[1]) for blob in blobs}
        if any(repo.prepared for repo in repos):
            # Two ids may have one folder there: `org/MyData` and `org/my_data`.
            texts.add("dataset")

        def find(name: str) -> InstalledBundle | None:
            return self.bundle(name) if name != besides and self._open(name).receipt.mentions(texts) else None

        return list(self._open_each(find, on_damage))

    def check_receipts(self) -> None:
        """Check the seals of all receipts, before something is deleted that a damaged one may need.

        Raises:
            IntegrityError: One was changed.
        """
        for _ in self._open_each(self._check, None):
            pass

    def _check(self, name: str) -> None:
        if is_bundle_name(name):
            self._open(name)

    def _open_each(
        self, find: Callable[[str], InstalledBundle | None], on_damage: OnDamage | None
    ) -> Iterator[InstalledBundle]:
        for name in self.names():
            try:
                bundle = find(name)
            except (NotInstalledError, FileNotFoundError):
                continue  # Removed since it was listed, or a file of somebody else's.
            except (IntegrityError, LockError) as error:
                if on_damage is None:
                    raise
                on_damage(error)
            else:
                if bundle is not None:
                    yield bundle

    def _open(self, name: str) -> _Opened:
        path = receipt_path(self.path, name)
        status = path.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        opened = self._opened.get(name)
        if opened is None or opened.stamp != stamp:
            opened = _Opened(stamp, Receipt.parse(path.read_bytes(), path))
            self._opened[name] = opened
        return opened
