"""An `HF_HOME`, opened once by a command: what is installed in it, and who shares folders with whom.

Rule book:

* a receipt is read once, and again only when the file has changed since; a layout is computed once;
* a receipt is read only if it is a file, and it and the folders on the way to it are to be trusted
  (`bundler.home.sharing.trusted_users`);
* of a bundle that has nothing in common with the one at hand only the seal of its receipt is checked: work for one
  bundle does not grow with what else is installed;
* nothing here writes. Who decides something by what it read here, and writes, holds `bundler.home.exclusive`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import AccessError, BundleError, IntegrityError, LockError, NotInstalledError, UntrustedError
from bundler.files.access import explain
from bundler.home.generation import GENERATIONS_FOLDER, check_name, generation_path
from bundler.home.installed import InstalledBundle, Neighbours
from bundler.home.receipt import Receipt, read_receipt_file, receipt_path
from bundler.home.sharing.trusted_users import TrustedUsers
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.names import is_bundle_name, repo_id_of
from bundler.text.wording import close_matches

if TYPE_CHECKING:
    from bundler.home.log import LogEntry
    from bundler.plan.layout import Layout

OnDamage = Callable[[BundleError], None]


def ignore_damage(error: BundleError) -> None:
    """Pass over a receipt that cannot be used; one that may not be read is another matter.

    Raises:
        AccessError: It may not be read: what it needs is there, and must not be harmed.
    """
    if isinstance(error, AccessError):
        raise error


@dataclass
class _Opened:
    """A receipt as it was read, and what was made of it."""

    receipt: Receipt
    bundle: InstalledBundle | None = field(default=None)


class Home:
    """What is installed in one HF_HOME.

    Args:
        path: The cache root; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._by_path: dict[Path, tuple[tuple[int, int, int], _Opened]] = {}
        # The pointer and the receipt of its generation say the same, and it is read once.
        self._by_name: dict[str, list[_Opened]] = {}

    @cached_property
    def trusted_users(self) -> TrustedUsers:
        """Whose files are used in it.

        Raises:
            UntrustedError: A folder that holds all the rest is not to be trusted.
        """
        users = TrustedUsers(self.path)
        users.check_home()
        return users

    def names(self) -> list[str]:
        """Return the names of installed bundles, sorted; receipts are not read."""
        return [name for name in _list_receipts(self.path / BUNDLES_FOLDER) if is_bundle_name(name)]

    def bundle(self, name: str, *, parse: bool = True) -> InstalledBundle:
        """Open an installed bundle by name: its current generation.

        Args:
            name: Its name.
            parse: Whether a malformed lock is found now, or when it is asked for.

        Raises:
            NotInstalledError: There is none of that name; close names are given.
            IntegrityError: Its receipt was changed.
            LockError: The lock in its receipt is malformed.
        """
        check_name(name)
        try:
            return self.read(receipt_path(self.path, name), parse=parse)
        except (FileNotFoundError, NotADirectoryError):
            names = self.names()
            close = close_matches(name, names)
            known = f"installed are: {', '.join(names)}" if names else "none is installed there"
            raise NotInstalledError(
                f"no bundle {name!r} in {self.path}; {known}",
                hint=f"did you mean {close[0]!r}?" if close else "install one with `bundle install FILE`",
            ) from None

    def bundles(self, *, on_damage: OnDamage | None = None, parse: bool = True) -> list[InstalledBundle]:
        """Open the current generation of every installed bundle, in name order.

        Args:
            on_damage: Called for a receipt that cannot be used; by default the error is raised.
            parse: As for `bundle`.

        Raises:
            IntegrityError: A receipt was changed, and there is no `on_damage`.
            LockError: A receipt holds a malformed lock, and there is no `on_damage`.
        """
        read = partial(self.read, parse=parse)
        return [read(path) for path in self._each(map(self._pointer, self.names()), read, on_damage)]

    def generations(
        self, name: str, *, on_damage: OnDamage | None = None, parse: bool = True
    ) -> list[InstalledBundle]:
        """Open all generations of a bundle, the newest first; one that an earlier version left is its only one.

        Args:
            name: The bundle's name; it may be one that has no current generation any more.
            on_damage: As for `bundles`.
            parse: As for `bundle`.

        Raises:
            IntegrityError: A receipt was changed, and there is no `on_damage`.
            LockError: A receipt holds a malformed lock, and there is no `on_damage`.
        """
        check_name(name)
        try:
            paths = self.receipts_of(name)
        except PermissionError as error:
            _pass_on(error, on_damage)
            paths = [self._pointer(name)]
        found = {
            bundle.digest: bundle
            for path in self._each(paths, partial(self.read, parse=parse), on_damage)
            for bundle in [self.read(path, parse=parse)]
        }
        installed = {
            (entry.name, entry.digest): number
            for number, entry in enumerate(self.log(on_damage=on_damage))
            if entry.action == "install"
        }

        def age(bundle: InstalledBundle) -> tuple[int, float]:
            # Of what the log does not know, the receipt's file says when it was written.
            path = generation_path(self.path, name, bundle.digest)
            written = path.stat().st_mtime if path.exists() else 0.0
            return installed.get((name, bundle.digest), -1), written

        return sorted(found.values(), key=age, reverse=True)

    def log(self, *, on_damage: OnDamage | None = None) -> list[LogEntry]:
        """Return what changed in it, from old to new.

        Args:
            on_damage: Called if the log is not to be believed, and then nothing is known; by default it is raised.

        Raises:
            UntrustedError: It is not to be believed, and there is no `on_damage`.
        """
        from bundler.home.log import read_log

        try:
            return read_log(self.path)
        except UntrustedError as error:
            if on_damage is None:
                raise
            on_damage(error)
            return []

    def all_names(self) -> list[str]:
        """Return the names of all bundles of which there is a generation, the current ones' and others, sorted."""
        try:
            kept = [entry.name for entry in os.scandir(self.path / GENERATIONS_FOLDER) if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            kept = []
        return sorted(name for name in {*self.names(), *kept} if is_bundle_name(name))

    def neighbours(
        self,
        contents: Iterable[Layout],
        *,
        besides: tuple[str, str],
        blobs: Iterable[str] = (),
        on_damage: OnDamage | None = None,
    ) -> Neighbours:
        """Open the generations, but the one at hand, that have a folder in common with one of `contents`.

        Args:
            contents: Layouts of the generation at hand.
            besides: Its name and digest.
            blobs: Paths of blobs whose repos count too.
            on_damage: Called for a receipt that cannot be used; by default the error is raised.

        Raises:
            IntegrityError: A receipt was changed, and there is no `on_damage`.
            LockError: A receipt holds a malformed lock, and there is no `on_damage`.
        """
        texts = {text for content in contents for text in _list_texts(content)}
        texts |= {repo_id_of(blob.split("/")[1]) for blob in blobs}

        def is_near(path: Path) -> bool:
            return self._read(path).receipt.mentions(texts) and bool(self.read(path).layout)

        name, digest = besides
        current = [self._pointer(other) for other in self.names() if other != name]
        kept = []
        for other in self.all_names():
            try:
                kept += self.receipts_of(other)
            except PermissionError as error:
                _pass_on(error, on_damage)
        found = Neighbours()
        for path in self._each(dict.fromkeys([*current, *kept]), is_near, on_damage):
            bundle = self.read(path)
            if path in current:
                found.current[bundle.name] = bundle
            if (bundle.name, bundle.digest) != (name, digest):
                found.kept[bundle.name, bundle.digest] = bundle
        return found

    def rivals(self, bundle: InstalledBundle) -> dict[str, InstalledBundle]:
        """Open the current generations of other bundles that may want names of the shared view; locks are not parsed.

        A receipt that cannot be used is passed over.
        """
        texts = _list_texts(bundle.names)

        def is_near(path: Path) -> bool:
            return self._read(path).receipt.mentions(texts) and bool(self.read(path, parse=False).names)

        others = [self._pointer(name) for name in self.names() if name != bundle.name]
        found = [self.read(path, parse=False) for path in self._each(others, is_near, ignore_damage)]
        return {other.name: other for other in found}

    def make_installed(self, receipt: Receipt, content: Layout | None = None) -> InstalledBundle:
        """Return the bundle that a receipt describes, and its `content` where that was computed already."""

        def find_neighbours(content: Layout) -> Neighbours:
            # Who only reads makes do with what may be read.
            return self.neighbours([content], besides=(receipt.name, receipt.digest), on_damage=lambda error: None)

        return InstalledBundle(self.path, receipt, find_neighbours, content)

    def know(self, bundle: InstalledBundle, text: bytes) -> InstalledBundle:
        """Return a bundle as the receipt says that was just written: its lock need not be parsed when it is read."""
        receipt = Receipt.parse(text, generation_path(self.path, bundle.name, bundle.digest), name=bundle.name)
        receipt.lock = bundle.lock
        known = self.make_installed(receipt, bundle.layout)
        self._by_name.setdefault(bundle.name, []).append(_Opened(receipt, known))
        return known

    def _pointer(self, name: str) -> Path:
        return receipt_path(self.path, name)

    def receipts_of(self, name: str) -> list[Path]:
        """Return where the receipts of all generations stand, and the pointer, which is all that old versions wrote."""
        folder = generation_path(self.path, name, "").parent
        return [*(folder / f"{short}.json" for short in _list_receipts(folder)), self._pointer(name)]

    def _each(
        self, paths: Iterable[Path], is_wanted: Callable[[Path], object], on_damage: OnDamage | None
    ) -> Iterator[Path]:
        # Looked at before the first: what is wrong with the home is not the fault of one receipt.
        _ = self.trusted_users
        for path in paths:
            try:
                if is_wanted(path):
                    yield path
            except (FileNotFoundError, NotADirectoryError, NotInstalledError):
                continue  # Removed since it was listed, or a file of somebody else's.
            except (IntegrityError, LockError) as error:
                if on_damage is None:
                    raise
                on_damage(error)
            except PermissionError as error:
                _pass_on(error, on_damage)

    def read(self, path: Path, *, parse: bool = True) -> InstalledBundle:
        """Open a generation by where its receipt stands.

        Args:
            path: The receipt.
            parse: As for `bundle`.

        Raises:
            FileNotFoundError: There is none.
            IntegrityError: The receipt was changed.
            LockError: The lock in it is malformed.
        """
        opened = self._read(path)
        if opened.bundle is None:
            opened.bundle = self.make_installed(opened.receipt)
        if parse:
            assert opened.receipt.lock, "parsed here, so that a fault of it is found here"
        return opened.bundle

    def _read(self, path: Path) -> _Opened:
        name = path.stem if path.parent.name == BUNDLES_FOLDER else path.parent.name
        if path in self._by_path and self._by_path[path][0] == _stamp(path.stat()):
            return self._by_path[path][1]
        self.trusted_users.check_file(path)
        content, status = read_receipt_file(path, name)
        known = self._by_name.setdefault(name, [])
        opened = next((one for one in known if one.receipt.text == content), None)
        if opened is None:
            opened = _Opened(Receipt.parse(content, path, name=name))
            known.append(opened)
        self._by_path[path] = _stamp(status), opened
        return opened


def _pass_on(error: PermissionError, on_damage: OnDamage | None) -> None:
    if on_damage is None or (refusal := explain(error)) is None:
        raise error
    on_damage(refusal)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _list_texts(content: Layout) -> set[str]:
    """Return what one of is in the lock of every bundle that has a folder in common with `content`."""
    texts = {name for repo in content.repos for name in (repo.repo_id, *repo.aliases)}
    if any(repo.prepared for repo in content.repos):
        # Two ids may have one folder there: `org/MyData` and `org/my_data`.
        texts.add("dataset")
    return texts


def _list_receipts(folder: Path) -> list[str]:
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))
