"""What an installation writes down beside its receipt, so that it can be finished, or undone, whatever ends it.

* `NAME.json.found`, what stood there before and stays when the bundle goes. A user may have downloaded a repo that a
  bundle ships too, at the same commit. Files of equal names are then the user's as much as the bundle's, and nothing
  on disk tells so afterwards. The record is written before the installation writes anything else, so that a run that
  goes on after a kill does not take the killed one's files for the user's, and it goes when the bundle goes.
* `NAME.json.unfinished`, what is written and no receipt names yet: one blob a line, from before the first is written
  until the receipt is there. The next installation of that bundle uses or deletes them, and so does its removal.
* `NAME.json.moving`, that the pointer and the shared view are about to say something else, or have gone for good: from
  before the first name changes until both say the same again, or until the last generation of a removed bundle is gone.
  It tells a move that was killed, which the next command finishes, and a removal, from a pointer that was lost.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.files.access import raise_unless_absent
from bundler.files.atomic import atomic_write
from bundler.files.leftovers import remove_leftovers
from bundler.files.links import Resolver
from bundler.files.paths import inside, path_inside, relative_path_problem
from bundler.home.common.extras import list_files
from bundler.home.common.reclaim import delete, link_targets, owned_paths
from bundler.home.sharing.trusted_users import TrustedUsers
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.layout import Layout, RepoLayout

FOUND_SUFFIX = ".json.found"
UNFINISHED_SUFFIX = ".json.unfinished"
MOVING_SUFFIX = ".json.moving"
# What the mark says of a bundle that is removed; else it names the generation that is to be the current one.
REMOVED = "removed"


@dataclass
class Found:
    """What was there.

    Attributes:
        looked: Snapshot folders that were looked at, present or not: each is looked at once.
        paths: Content and snapshot files that were there and belonged to no bundle.
        refs: What refs said that a bundle wants to say something, by path.
    """

    looked: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    refs: dict[str, str] = field(default_factory=dict)


def found_path(hf_home: Path, name: str) -> Path:
    """Return where the record of what a bundle found stands."""
    return hf_home / BUNDLES_FOLDER / f"{name}{FOUND_SUFFIX}"


def read_found(hf_home: Path, name: str) -> Found | None:
    """Return the record; None if there is none, or none that makes sense.

    Raises:
        UntrustedError: It is not to be trusted.
    """
    try:
        TrustedUsers(hf_home).check_file(found_path(hf_home, name))
        record = json.loads(found_path(hf_home, name).read_bytes())
        return Found(set(record["looked"]), set(record["paths"]), dict(record["refs"]))
    except OSError as error:
        raise_unless_absent(error)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def record_found(
    hf_home: Path,
    name: str,
    content: Layout,
    *,
    previous: Layout | None,
    others: Iterable[Layout],
    unfinished: Collection[str],
) -> Found:
    """Record what of `content` is there already and belongs to no bundle.

    Args:
        hf_home: The cache root.
        name: Of the bundle that is about to be installed.
        content: What it is about to own.
        previous: What an installation of that name owns now.
        others: What other installed bundles own, as far as they have a folder in common.
        unfinished: Blobs that installations which did not end have left.
    """
    recorded = read_found(hf_home, name)
    found = recorded or Found(looked=_list_folders(previous) if previous else set())
    owned = {path for layout in others for repo in layout.repos for path in owned_paths(repo)} | set(unfinished)
    if previous is not None:
        owned |= {path for repo in previous.repos for path in owned_paths(repo)}
    fresh = [repo for repo in content.repos if not set(_list_snapshots(repo)) <= found.looked]
    for repo in fresh:
        for folder in repo.hub_folders:
            if inside(hf_home, folder).is_symlink():
                continue
            for part, items in (("blobs", repo.blobs), ("snapshots", repo.snapshots)):
                # Where it is not there, nothing below it is: no need to ask for each of 100,000 files.
                if os.path.lexists(path_inside(hf_home, f"{folder}/{part}")):
                    paths = [repo.path_in(folder, item.path) for item in items]
                    found.paths |= {
                        p for p in paths if p not in owned and os.path.lexists(path_inside(hf_home, p))
                    }
            for ref in repo.ref_texts():
                path = repo.path_in(folder, ref.path)
                if path not in owned and (old := _read_text(inside(hf_home, path))) is not None:
                    found.refs.setdefault(path, old)
        prepared = [blob.path for blob in repo.prepared]
        found.paths |= {p for p in prepared if p not in owned and os.path.lexists(path_inside(hf_home, p))}
    found.looked |= _list_folders(content)
    if fresh:
        _write_found(hf_home, name, found)
    return found


def forget_found(hf_home: Path, name: str) -> None:
    """Delete the record: the bundle is gone, or nothing of it was published."""
    found_path(hf_home, name).unlink(missing_ok=True)


def forget_unneeded(hf_home: Path, needed: Collection[str]) -> None:
    """Delete records of bundles of which nothing is installed and nothing unfinished: killed before they wrote."""
    needed = {*needed, *list_unfinished(hf_home)}
    for suffix in (FOUND_SUFFIX, MOVING_SUFFIX):
        for name in _list_records(hf_home, suffix):
            if name not in needed:
                (hf_home / BUNDLES_FOLDER / f"{name}{suffix}").unlink(missing_ok=True)


def hand_on_found(hf_home: Path, found: Found, survivors: Mapping[str, Layout]) -> None:
    """Let bundles that own the same files remember whose they were, when the one that found them goes."""
    for name, layout in survivors.items():
        owned = {path for repo in layout.repos for path in owned_paths(repo)}
        paths, refs = found.paths & owned, {path: old for path, old in found.refs.items() if path in owned}
        if paths or refs:
            theirs = read_found(hf_home, name) or Found(looked=_list_folders(layout))
            theirs.paths |= paths
            theirs.refs = refs | theirs.refs
            _write_found(hf_home, name, theirs)


def restore_refs(hf_home: Path, found: Found) -> None:
    """Give refs that are gone now what they said before, where what they named is still there."""
    for path, old in found.refs.items():
        folder = inside(hf_home, path.partition("/refs/")[0])
        if not inside(hf_home, path).exists() and (folder / "snapshots" / old.strip()).is_dir():
            atomic_write(inside(hf_home, path), old.encode())


def unfinished_path(hf_home: Path, name: str) -> Path:
    """Return where the list of a bundle's unfinished blobs stands."""
    return hf_home / BUNDLES_FOLDER / f"{name}{UNFINISHED_SUFFIX}"


def list_unfinished(hf_home: Path) -> list[str]:
    """Return the names of bundles of which an installation did not end, sorted."""
    return _list_records(hf_home, UNFINISHED_SUFFIX)


def read_unfinished(hf_home: Path, name: str) -> list[str]:
    """Return the blobs that are listed, less what cannot be one of ours.

    Raises:
        UntrustedError: The list is not to be trusted.
    """
    path = unfinished_path(hf_home, name)
    try:
        TrustedUsers(hf_home).check_file(path)
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise_unless_absent(error)
        return []
    except UnicodeDecodeError:
        return []
    return [line for line in lines if _is_blob(line)]


def note_unfinished(hf_home: Path, name: str, blobs: Iterable[str]) -> None:
    """Add to the list what is about to be written."""
    paths = sorted({*read_unfinished(hf_home, name), *filter(_is_blob, blobs)})
    atomic_write(unfinished_path(hf_home, name), "".join(f"{path}\n" for path in paths).encode())


def clear_unfinished(hf_home: Path, name: str, *, keep: Iterable[Layout]) -> int:
    """Delete what is listed and neither one of `keep` nor a snapshot uses, and the list.

    Returns:
        Bytes freed.
    """
    path = unfinished_path(hf_home, name)
    if not path.exists():
        return 0
    kept = {owned for content in keep for repo in content.repos for owned in owned_paths(repo)}
    freed = 0
    linked: dict[str, set[str]] = {}
    resolver = Resolver()
    for blob in read_unfinished(hf_home, name):
        if blob in kept:
            continue
        repo = blob.rpartition("/blobs/")[0]
        if repo not in linked:
            linked[repo] = set(link_targets(hf_home, list_files(hf_home, f"{repo}/snapshots")))
            remove_leftovers(inside(hf_home, f"{repo}/blobs"), now=time.time())
        if resolver.resolve(f"{hf_home}/{blob}") not in linked[repo]:
            freed += delete(hf_home, blob, kept)
    path.unlink()
    return freed


def note_move(hf_home: Path, name: str, to: str) -> None:
    """Mark that the pointer of a bundle is about to move to generation `to`, a digest, or to go: `REMOVED`."""
    atomic_write(_moving_path(hf_home, name), f"{to}\n".encode())


def read_move(hf_home: Path, name: str) -> str | None:
    """Return what the mark of a bundle says; None if there is none."""
    return text.strip() if (text := _read_text(_moving_path(hf_home, name))) is not None else None


def list_moves(hf_home: Path) -> list[str]:
    """Return the names of bundles that have a mark, sorted."""
    return _list_records(hf_home, MOVING_SUFFIX)


def forget_move(hf_home: Path, name: str) -> None:
    """Delete the mark: pointer and shared view say the same, or nothing is left."""
    _moving_path(hf_home, name).unlink(missing_ok=True)


def _moving_path(hf_home: Path, name: str) -> Path:
    return hf_home / BUNDLES_FOLDER / f"{name}{MOVING_SUFFIX}"


def _list_records(hf_home: Path, suffix: str) -> list[str]:
    found = (hf_home / BUNDLES_FOLDER).glob(f"*{suffix}")
    return sorted(path.name.removesuffix(suffix) for path in found if path.is_file())


def _is_blob(path: str) -> bool:
    parts = path.split("/")
    is_below = len(parts) == 4 and parts[0] in ("hub", "files") and parts[2] == "blobs"
    return is_below and relative_path_problem(path) is None


def _list_folders(layout: Layout) -> set[str]:
    return {folder for repo in layout.repos for folder in _list_snapshots(repo)}


def _list_snapshots(repo: RepoLayout) -> Iterator[str]:
    return (f"{repo.folder}/snapshots/{commit}" for commit in repo.trees)


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write_found(hf_home: Path, name: str, found: Found) -> None:
    record = {"looked": sorted(found.looked), "paths": sorted(found.paths), "refs": found.refs}
    atomic_write(found_path(hf_home, name), (json.dumps(record, indent=1) + "\n").encode())
