"""Choose where a launch reads its bundles, and make it if it is not there.

One bundle is read through its own view. Several are put together in a folder of the user's own below the temporary
folder, called by what is in it: the next launch of the same generations finds it, and no other bundle can change it. A
bundle that has no view, of an earlier version or on a file system without symlinks, is read in the shared view, and so
are those that go with it.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bundler.files.atomic import temporary_path
from bundler.files.digest import sha256_bytes
from bundler.files.private_folder import make_private_folder
from bundler.home.installed import InstalledBundle, View
from bundler.home.stamps.names import StampedNames


def open_view(hf_home: Path, bundles: Sequence[InstalledBundle]) -> View:
    """Return where a launch on `bundles` of one home reads them; nothing is verified.

    Raises:
        ConflictError: They need one name to be two things.
        OfflineError: The place for a view of several belongs to another user.
    """
    if len(bundles) > 1:
        # Here and below: most launches read one bundle, and have no use for what puts several together.
        from bundler.home.view.compose import check_composition

        check_composition(bundles)
    shared = View(tuple(bundles), hf_home, hf_home / "datasets")
    if not bundles or any(bundle.view == hf_home for bundle in bundles):
        return shared
    has_datasets = any(bundle.receipt.has_prepared for bundle in bundles)
    if len(bundles) == 1:
        [bundle] = bundles
        return View((bundle,), bundle.view, (bundle.view if has_datasets else hf_home) / "datasets")
    described = "\n".join(sorted(f"{bundle.view} {bundle.receipt.lock_blake3}" for bundle in bundles))
    name = f"view-{sha256_bytes(described.encode())[:32]}"
    root = _compose(make_private_folder(hf_home), name, bundles)
    return View(tuple(bundles), root, (root if has_datasets else hf_home) / "datasets", is_checked=True)


def _compose(folder: Path, name: str, bundles: Sequence[InstalledBundle]) -> Path:
    """Return a whole view of `bundles` in `folder`; one that somebody changed is left to the launches that read it."""
    from bundler.home.view.compose import compose_view

    for number in itertools.count():
        root = folder / f"{name}-{number}"
        names = StampedNames(root)
        # Whoever may write to this folder may as well launch what he likes as this user.
        if names.hold() or (names.take() and _is_whole(root, bundles)):
            names.keep()
            return root
        if os.path.lexists(root):
            continue
        temporary = temporary_path(folder)
        try:
            compose_view(bundles, temporary)
            temporary.rename(root)
            # Whole as far as it is up to names; if content is missing, verification says so.
            return root
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            # Another launch of this user may have been faster.
            if not root.exists():
                raise
    raise AssertionError("there is no last number")


def _is_whole(root: Path, bundles: Sequence[InstalledBundle]) -> bool:
    from bundler.home.verify.installed import InstalledCheck, verify_installed
    from bundler.home.view.compose import settle

    checks = [
        InstalledCheck(
            bundle.hf_home,
            root,
            settle(bundle, bundles),
            kept=[other.layout for other in bundles if other is not bundle],
        )
        for bundle in bundles
    ]
    return root.is_dir() and verify_installed(str(root), "", checks, quick=True).ok
