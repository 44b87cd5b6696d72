"""Give up one generation: its receipt first, then its view, then what nothing else in the home needs.

A receipt that is hidden, and not yet deleted, stands for a retirement that was killed; the next one finishes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from bundler.errors import IntegrityError, LockError
from bundler.files.atomic import fsync_dir
from bundler.files.digest import blake3_file
from bundler.files.links import link_or_copy
from bundler.files.paths import inside
from bundler.home.common.journal import (
    Found,
    forget_found,
    forget_move,
    hand_on_found,
    read_found,
    restore_refs,
)
from bundler.home.common.kept_refs import delete_kept_refs
from bundler.home.common.reclaim import hand_over, list_content, reclaim
from bundler.home.generation import GENERATIONS_FOLDER, generation_path, stamps_path, used_path
from bundler.home.home import Home, ignore_damage
from bundler.home.installed import InstalledBundle
from bundler.home.launches import RunningLaunch, find_reader
from bundler.home.log import append_to_log
from bundler.home.receipt import REMOVING_SUFFIX, read_receipt
from bundler.home.trust.paths import kept_signature_path
from bundler.home.view.view import list_view_content, remove_view
from bundler.plan.layout import Blob


def hand_over_names(home: Home, before: InstalledBundle) -> None:
    """Give names in the shared view that only `before` needed so, current until now, to those who need them.

    Args:
        home: Its home, under its lock, the pointer already moved or gone.
        before: The generation.
    """
    current = _list_current(home, before)
    hand_over(home.path, before.names, [other.names for other in current])
    _hand_over_prepared(home, before, current)


def _hand_over_prepared(home: Home, before: InstalledBundle, current: list[InstalledBundle]) -> None:
    """Put prepared files that only `before` needed so, in the shared view, in the form that another one needs.

    What stands in the view of another bundle was verified when that was installed, and may have been damaged since: it
    is hashed before it gets a second name.
    """
    wanted: dict[str, list[tuple[InstalledBundle, Blob]]] = {}
    for other in current:
        for blob in (blob for repo in other.names.repos for blob in repo.prepared if other.has_view):
            wanted.setdefault(blob.path, []).append((other, blob))
    kept = {blob for other in current for repo in other.names.repos for blob in repo.prepared}
    for blob in (blob for repo in before.names.repos for blob in repo.prepared):
        candidates = wanted.get(blob.path, ())
        if blob in kept or not candidates:
            continue
        place, first = inside(home.path, blob.path), candidates[0][1]
        sources = [inside(other.view, own.path) for other, own in candidates if own == first]
        # One of them stands there already: whoever is shown now was placed before.
        if any(_is_one_file(source, place) for source in sources):
            continue
        if (source := next((source for source in sources if _holds(source, first)), None)) is not None:
            link_or_copy(source, place)


def _is_one_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _holds(path: Path, blob: Blob) -> bool:
    """Tell whether a file has the content of a blob."""
    try:
        return path.stat().st_size == blob.size_bytes and blake3_file(path).blake3 == blob.blake3
    except OSError:
        return False


def _list_current(home: Home, bundle: InstalledBundle) -> list[InstalledBundle]:
    """Return what the shared view is to show beside `bundle`: other bundles, and its own current generation."""
    current = list(home.rivals(bundle).values())
    if bundle.name in home.names() and (own := home.bundle(bundle.name, parse=False)).digest != bundle.digest:
        current.append(own)
    return current


def retire_generation(home: Home, bundle: InstalledBundle) -> int | RunningLaunch:
    """Delete a generation that is not the current one, and what only it needs.

    Args:
        home: Its home, under its lock.
        bundle: The generation.

    Returns:
        Bytes freed; or a launch that reads it, for which it stays as it was.
    """
    near = home.neighbours([bundle.layout], besides=(bundle.name, bundle.digest))
    current = _list_current(home, bundle)
    _hand_over_prepared(home, bundle, current)
    others = home.generations(bundle.name, on_damage=ignore_damage)
    is_last = all(other.digest == bundle.digest for other in others)
    path = generation_path(home.path, bundle.name, bundle.digest)
    hidden = path.with_name(path.name + REMOVING_SUFFIX)
    if path.exists():
        path.replace(hidden)
        fsync_dir(path.parent)
    # Only now: a launch that is not noted yet will not find the receipt (`bundler.home.launches`).
    if launch := find_reader(home.path, bundle):
        hidden.replace(path)
        return launch
    freed = remove_view(home.path, bundle.name, bundle.digest)
    found = read_found(home.path, bundle.name) or Found()
    if is_last:
        hand_on_found(home.path, found, {other.name: other.layout for other in near.kept.values()})
    same_name = [other.layout for other in others if other.digest != bundle.digest]
    delete_kept_refs(home.path, bundle.name, bundle.layout, same_name)
    freed += reclaim(
        home.path,
        bundle.layout,
        keep=near.layouts,
        current=[other.names for other in current],
        stays=found.paths,
    )
    if is_last:
        restore_refs(home.path, found)
        forget_found(home.path, bundle.name)
        forget_move(home.path, bundle.name)
    kept_signature_path(home.path, bundle.name, bundle.digest).unlink(missing_ok=True)
    stamps_path(home.path, bundle.name, bundle.digest).unlink(missing_ok=True)
    used_path(home.path, bundle.name, bundle.digest).unlink(missing_ok=True)
    hidden.unlink(missing_ok=True)
    _remove_empty(path.parent, home.path / GENERATIONS_FOLDER)
    return freed


def finish_retirements(home: Home) -> int:
    """Finish what killed retirements left; return the bytes freed."""
    freed = 0
    for bundle in list_half_retired(home):
        own = retire_generation(home, bundle)
        if isinstance(own, RunningLaunch):
            continue
        append_to_log(home.path, "prune", bundle.name, bundle.digest, freed_bytes=own)
        freed += own
    return freed


def list_half_retired(home: Home) -> list[InstalledBundle]:
    """Return generations whose retirement was killed."""
    found = []
    for hidden in sorted((home.path / GENERATIONS_FOLDER).glob(f"*/*.json{REMOVING_SUFFIX}")):
        try:
            home.trusted_users.check_file(hidden)
            found.append(home.make_installed(read_receipt(hidden, name=hidden.parent.name)))
        except (IntegrityError, LockError):
            continue  # What it owned cannot be told: it stays, and nothing else does so for it.
    return found


def list_retired_content(
    home: Home, bundle: InstalledBundle, *, gone: Collection[tuple[str, str]], deleted: Collection[str]
) -> Iterator[str]:
    """Yield what may hold content and would be deleted with a generation, as paths in the home; nothing is changed.

    Args:
        home: Its home.
        bundle: The generation.
        gone: (name, digest) of generations that are taken to be gone already.
        deleted: Paths that went with them.

    Raises:
        OSError: A folder may not be read.
    """
    if bundle.has_view:
        view = bundle.view.relative_to(home.path).as_posix()
        yield from (f"{view}/{path}" for path in list_view_content(bundle.view))
    near = home.neighbours([bundle.layout], besides=(bundle.name, bundle.digest))
    found = read_found(home.path, bundle.name) or Found()
    keep = [other.layout for key, other in near.kept.items() if key not in gone]
    yield from list_content(home.path, bundle.layout, keep=keep, stays=found.paths, deleted=deleted)


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
