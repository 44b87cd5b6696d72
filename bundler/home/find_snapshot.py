"""Which installed bundle has a repo, by its id or an alias."""

from __future__ import annotations

from pathlib import Path

from bundler.errors import BundleError, NotInstalledError
from bundler.home.home import Home, OnDamage
from bundler.home.installed import InstalledBundle
from bundler.plan.names import RepoType


def find_snapshot(
    home: Home, repo_id: str, repo_type: RepoType = "model", *, name: str | None = None, on_damage: OnDamage
) -> tuple[InstalledBundle, Path]:
    """Return a bundle that has a repo, and the snapshot folder; nothing is verified.

    Args:
        home: Where to look.
        repo_id: Its id, or an alias.
        repo_type: The Hub's type of the repo.
        name: Look in this bundle only.
        on_damage: Called for a receipt that cannot be used, if the repo was found without it.

    Raises:
        NotInstalledError: No bundle has it, or several have it at different commits.
        IntegrityError: It was not found, and a receipt was changed: it may be that one's.
        LockError: It was not found, and a receipt holds a malformed lock.
    """
    damaged: list[BundleError] = []
    found: list[tuple[InstalledBundle, Path]] = []
    failures: list[NotInstalledError] = []
    for bundle in [home.bundle(name)] if name else home.bundles(on_damage=damaged.append):
        try:
            found.append((bundle, bundle.snapshot_path(repo_id, repo_type)))
        except NotInstalledError as error:
            failures.append(error)
    if not found and damaged:
        raise damaged[0]
    for damage in damaged:
        on_damage(damage)
    if not found:
        raise _closest(failures, repo_id) or NotInstalledError(
            f"no bundle is installed in {home.path}", hint="install one with `bundle install FILE`"
        )
    if len({folder.name for _, folder in found}) > 1:
        names = ", ".join(bundle.name for bundle, _ in found)
        raise NotInstalledError(
            f"{repo_id} is installed at different commits by bundles {names}", hint="choose one with --bundle"
        )
    return found[0]


def _closest(failures: list[NotInstalledError], repo_id: str) -> NotInstalledError | None:
    """Return the failure of a bundle that has the repo, as the other type or left out, or else the last."""
    about = [error for error in failures if error.message.startswith(f"{repo_id} of bundle ")]
    return next(reversed(about or failures), None)
