"""Installed bundles: the snapshot folders that their receipts vouch for, and their removal."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bundler.errors import BundleError, IntegrityError, LockError, NotInstalledError
from bundler.files.cores import available_cores
from bundler.files.paths import fsync_dir, remove_leftovers
from bundler.home.exclusive import Note, home_lock, no_note
from bundler.home.found import Found, forget, hand_on, read_found, restore_refs
from bundler.home.prune import prune
from bundler.home.receipt import (
    REMOVING_SUFFIX,
    UnknownReceiptError,
    read_receipt,
    receipt_path,
)
from bundler.home.set_aside import move_aside
from bundler.home.unfinished import clear_unfinished, unfinished_path
from bundler.home.verify.installed import verify_installed
from bundler.plan.layout import BUNDLES_FOLDER, Layout, layout, repo_folder
from bundler.plan.lock import Lock, LockedFile
from bundler.plan.names import RepoType, is_bundle_name
from bundler.text.wording import counted
from bundler.verify.report import Progress, Report, no_progress


@dataclass(frozen=True)
class InstalledBundle:
    """A bundle whose receipt is in place.

    Attributes:
        hf_home: Where.
        lock: What it must be; of a bundle that was installed in part, that part.
        digest: The bundle's digest, ``sha256:<hex>``.
        left_out: Ids of the bundle's repos that are not installed.
    """

    hf_home: Path
    # Not shown: a notebook prints what `enforce_offline` returns.
    lock: Lock = field(repr=False)
    digest: str
    left_out: tuple[str, ...] = ()

    @classmethod
    def open(cls, name: str, hf_home: Path) -> InstalledBundle:
        """Open an installed bundle by name.

        Raises:
            NotInstalledError: There is none of that name; close names are given.
            IntegrityError: Its receipt was changed.
        """
        if not is_bundle_name(name):
            raise NotInstalledError(
                f"{name!r} is no bundle name: expected lower-case letters, digits, '.', '_', '-'"
            )
        try:
            receipt = read_receipt(receipt_path(hf_home, name))
            return cls(hf_home, receipt.lock, receipt.digest, receipt.left_out)
        except (FileNotFoundError, NotADirectoryError):
            names = installed_names(hf_home)
            close = difflib.get_close_matches(name, names, n=3)
            known = f"installed are: {', '.join(names)}" if names else "none is installed there"
            raise NotInstalledError(
                f"no bundle {name!r} in {hf_home}; {known}",
                hint=f"did you mean {close[0]!r}?" if close else "install one with `bundle install FILE`",
            ) from None

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.lock.name

    @cached_property
    def layout(self) -> Layout:
        """Every name below `hf_home` that it owns."""
        return layout(self.lock)

    def verify(
        self,
        *,
        quick: bool = False,
        repo_id: str | None = None,
        jobs: int | None = None,
        progress: Progress = no_progress,
    ) -> Report:
        """Check it, or one of its repos (id or alias), against its lock; nothing is written."""
        return verify_installed(
            self.hf_home,
            self.lock,
            digest=self.digest,
            others={other.name: other.layout for other in _others(self.hf_home, self.name)},
            only=lambda repo: repo_id is None or repo_id in (repo.repo_id, *repo.aliases),
            quick=quick,
            jobs=jobs or available_cores(),
            progress=progress,
        )

    def snapshot_path(self, repo_id: str, repo_type: RepoType = "model") -> Path:
        """Return the snapshot folder of a repo by id or alias; nothing is verified.

        Raises:
            NotInstalledError: The bundle has no such repo; close names are given.
        """
        known: list[str] = []
        for repo in self.lock.repos:
            if repo.repo_type == repo_type:
                known += [repo.repo_id, *repo.aliases]
                if repo_id in known:
                    folder = repo_folder(repo.repo_id, repo_type)
                    return self.hf_home / "hub" / folder / "snapshots" / repo.commit
        if any(repo_id in (repo.repo_id, *repo.aliases) for repo in self.lock.repos):
            other = "model" if repo_type == "dataset" else "dataset"
            raise NotInstalledError(
                f"{repo_id} of bundle {self.name} is a {other}, not a {repo_type}",
                hint=f"bundle path {repo_id}{' --dataset' if other == 'dataset' else ''}",
            )
        if repo_id in self.left_out:
            raise NotInstalledError(
                f"{repo_id} of bundle {self.name} was left out when it was installed (--only)",
                hint=f"install it with `bundle install BUNDLE --only {repo_id}`",
            )
        close = difflib.get_close_matches(repo_id, known, n=3)
        raise NotInstalledError(
            f"bundle {self.name} has no {repo_type} {repo_id!r}; it has: {', '.join(sorted(set(known))) or 'none'}",
            hint=f"did you mean {close[0]!r}?" if close else "add it to the manifest, or as an alias there",
        )


def installed_names(hf_home: Path) -> list[str]:
    """Return the names of installed bundles, sorted; receipts are not read."""
    try:
        names = [path.name for path in (hf_home / BUNDLES_FOLDER).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def installed_bundles(
    hf_home: Path, *, on_damage: Callable[[BundleError], None] | None = None
) -> list[InstalledBundle]:
    """Open every installed bundle, in name order.

    Args:
        hf_home: Where to look.
        on_damage: Called for a receipt that cannot be used; by default the error is raised.

    Raises:
        IntegrityError: A receipt was changed and there is no `on_damage`.
    """
    bundles = []
    for name in installed_names(hf_home):
        try:
            bundles.append(InstalledBundle.open(name, hf_home))
        except NotInstalledError:
            continue  # Removed since it was listed, or a file of somebody else's.
        except (IntegrityError, LockError) as error:
            if on_damage is None:
                raise
            on_damage(error)
    return bundles


def _others(hf_home: Path, name: str) -> list[InstalledBundle]:
    return [bundle for bundle in installed_bundles(hf_home, on_damage=lambda error: None) if bundle.name != name]


def other_trees(hf_home: Path, name: str) -> dict[tuple[str, str], list[LockedFile]]:
    """Return what bundles other than `name` ship of each (repo folder, commit)."""
    trees: dict[tuple[str, str], list[LockedFile]] = {}
    for bundle in _others(hf_home, name):
        for repo in bundle.layout.repos:
            folders = [repo.folder, *(f"hub/{repo_folder(alias, repo.repo_type)}" for alias in repo.aliases)]
            for folder in folders:
                for commit, files in repo.trees.items():
                    trees.setdefault((folder, commit), []).extend(files)
    return trees


def remove(name: str, hf_home: Path, *, on_note: Note = no_note) -> int:
    """Uninstall a bundle; what other bundles or the user's own downloads use stays.

    Args:
        name: Its name.
        hf_home: Where it is installed.
        on_note: Told what a person should know of and is no error.

    Returns:
        Bytes freed.

    Raises:
        NotInstalledError: There is no such bundle.
        IntegrityError: The receipt of another bundle was changed: what is shared cannot be told. Where its own was,
            that receipt is set aside, and nothing else is touched.
    """
    if not (hf_home / BUNDLES_FOLDER).is_dir():
        InstalledBundle.open(name, hf_home)  # says what is there instead
    with home_lock(hf_home, on_note=on_note):
        return _remove(name, hf_home, on_note)


def _remove(name: str, hf_home: Path, on_note: Note) -> int:
    path = receipt_path(hf_home, name)
    hidden = path.with_name(path.name + REMOVING_SUFFIX)
    if not path.exists() and not hidden.exists() and unfinished_path(hf_home, name).exists():
        remove_leftovers(path.parent, now=time.time())
        freed = clear_unfinished(hf_home, name, keep=[bundle.layout for bundle in installed_bundles(hf_home)])
        forget(hf_home, name)
        return freed
    if path.exists() or not hidden.exists():
        try:
            InstalledBundle.open(name, hf_home)
        except UnknownReceiptError:
            raise
        except (IntegrityError, LockError) as error:
            place = move_aside(hf_home, f"{BUNDLES_FOLDER}/{path.name}")
            on_note(
                f"{error.message}; what it owns cannot be told. The receipt is now {place}, and the files of {name} "
                "stay: to free their room, install the bundle again and remove it then"
            )
            return 0
        installed_bundles(hf_home)
        path.replace(hidden)
        fsync_dir(path.parent)
    lock = read_receipt(hidden).lock
    survivors = {bundle.name: bundle.layout for bundle in installed_bundles(hf_home)}
    found = read_found(hf_home, name) or Found()
    hand_on(hf_home, found, survivors)
    freed = prune(hf_home, layout(lock), keep=survivors.values(), stays=found.paths)
    freed += clear_unfinished(hf_home, name, keep=survivors.values())
    restore_refs(hf_home, found)
    if found.paths:
        on_note(f"left as before {name} was installed: {counted(len(found.paths), 'file')}")
    hidden.unlink()
    forget(hf_home, name)
    return freed
