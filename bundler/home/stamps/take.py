"""Take the stamps of a generation, of what was hashed, and write them where they are believed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.files.digest import Digests
from bundler.files.stamp import Stamp, find_inode, read_own_clock, stamp_tree, wait_for_clock
from bundler.home.exclusive import lock_home
from bundler.home.generation import generation_path
from bundler.home.installed import InstalledBundle
from bundler.home.stamps.places import (
    NoStateFolderError,
    Note,
    may_write_home_stamps,
    open_state_folder,
    write_home_stamps,
    write_own_stamps,
)
from bundler.home.stamps.stamps import Kind, Stamps
from bundler.plan.folders import BUNDLES_FOLDER
from bundler.plan.layout import Blob

if TYPE_CHECKING:
    from bundler.home.verify.hashing import Hashed


@dataclass(frozen=True)
class Names:
    """Stamps of what is in a view, from before it was looked at.

    Attributes:
        stamps: Path below it -> stamp, of folders and files.
        kinds: Owner, group and mode of everything there.
    """

    stamps: dict[str, Stamp]
    kinds: tuple[Kind, ...]


def take_names(bundle: InstalledBundle) -> Names:
    """Stamp the view of a generation; one that has none, or that cannot be read, gives no stamps."""
    if bundle.view == bundle.hf_home:
        return Names({}, ())
    stamps: dict[str, Stamp] = {}
    kinds: set[Kind] = set()
    try:
        for path, status in stamp_tree(bundle.view):
            kinds.add((status.st_uid, status.st_gid, status.st_mode))
            if not stat.S_ISLNK(status.st_mode):
                stamps[path] = Stamp.of(status)
    except OSError:
        return Names({}, ())
    return Names(stamps, tuple(sorted(kinds)))


def take_stamps(
    bundle: InstalledBundle, hashed: Hashed, names: Names, *, hashed_at: float, is_right: bool
) -> Stamps:
    """Return the stamps of what was hashed, and has not changed meanwhile.

    Args:
        bundle: The generation.
        hashed: What the files were when they were hashed.
        names: What the view was before it was looked at.
        hashed_at: When the hashing of all of it began, in seconds since 1970.
        is_right: Whether nothing was wrong with it.
    """

    def is_hashed(blob: Blob, status: os.stat_result) -> bool:
        found = hashed.get(find_inode(status))
        return isinstance(found, Digests) and found.blake3 == blob.blake3

    content = _stamp_content(bundle, is_hashed)
    return _make_stamps(bundle, content, names, hashed_at=hashed_at, is_right=is_right)


def _stamp_content(
    bundle: InstalledBundle, is_known: Callable[[Blob, os.stat_result], bool]
) -> dict[str, tuple[Stamp, str]]:
    """Return the stamps of those files with content that are known to be right."""
    content: dict[str, tuple[Stamp, str]] = {}
    home, lstat = str(bundle.hf_home), os.lstat
    for blob in bundle.layout.blobs:
        path = content_path(bundle, blob)
        try:
            status = lstat(f"{home}/{path}")
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and is_known(blob, status):
            content[path] = (Stamp.of(status), blob.blake3)
    return content


def _make_stamps(
    bundle: InstalledBundle,
    content: dict[str, tuple[Stamp, str]],
    names: Names,
    *,
    hashed_at: float,
    is_right: bool,
) -> Stamps:
    return Stamps(
        name=bundle.name,
        digest=bundle.digest,
        lock_blake3=bundle.receipt.lock_blake3,
        hashed_at=hashed_at,
        files=len(bundle.layout.blobs),
        size_bytes=sum(blob.size_bytes for blob in bundle.layout.blobs),
        content=content,
        names=names.stamps if is_right else {},
        kinds=names.kinds if is_right else (),
    )


def content_path(bundle: InstalledBundle, blob: Blob) -> str:
    """Return where a launch reads a content, below the home: prepared files in the view, all else in the shared one."""
    if blob.path.startswith("datasets/") and bundle.view != bundle.hf_home:
        return f"{bundle.view.relative_to(bundle.hf_home).as_posix()}/{blob.path}"
    return blob.path


def read_clock(home: Path) -> int:
    """Return a moment, in ns: what changed before it, and is hashed from now on, has a stamp that says something."""
    if may_write_home_stamps(home):
        with contextlib.suppress(OSError):
            return wait_for_clock(home / BUNDLES_FOLDER, 0)
    return read_own_clock()


def stamp_installed(bundle: InstalledBundle, written: Container[str], begun: float, on_note: Note) -> None:
    """Take the stamps of what an installation has just hashed, under the lock of the home that it holds.

    What is changed in the home meanwhile, and given its old time, passes for what was hashed: whoever can do so is
    trusted there.

    Args:
        bundle: What was installed.
        written: Paths of blobs that were written; others were there, and hashed first.
        begun: When the installation began, in seconds since 1970.
        on_note: Told if they cannot be written.
    """
    content = _stamp_content(bundle, lambda blob, status: blob.path in written or status.st_mtime < begun)
    stamps = _make_stamps(bundle, content, take_names(bundle), hashed_at=begun, is_right=True)
    try:
        # Nothing that it wrote has settled yet; the next change of it has another time than what stands here.
        moment = wait_for_clock(bundle.hf_home / BUNDLES_FOLDER, stamps.last_change_ns)
    except OSError as error:
        # Where nothing may be written nothing was: all was there. A disk that is full now is another matter.
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            on_note(f"note: what was hashed cannot be remembered, and is hashed again by the next launch: {error}")
        return
    stamps = stamps.settled(moment)
    if not (may_write_home_stamps(bundle.hf_home) and _store_in_home(bundle, stamps, on_note=on_note)):
        store_own_stamps(bundle, stamps, on_note=on_note)


def store_stamps(bundle: InstalledBundle, stamps: Stamps, *, on_note: Note) -> None:
    """Write stamps of a full verification where most users believe them: in the home, else in the user's own folder."""
    home = bundle.hf_home
    folder = generation_path(home, bundle.name, bundle.digest).parent
    if may_write_home_stamps(home) and os.access(folder, os.W_OK):
        with lock_home(home, on_note=on_note):
            if _store_in_home(bundle, stamps, on_note=on_note):
                return
    store_own_stamps(bundle, stamps, on_note=on_note)


def store_own_stamps(bundle: InstalledBundle, stamps: Stamps, *, on_note: Note) -> None:
    """Write stamps in the user's own folder."""
    try:
        write_own_stamps(open_state_folder(bundle.hf_home), bundle, stamps)
    except (OSError, NoStateFolderError) as error:
        on_note(f"note: what was hashed cannot be remembered, and is hashed again by the next launch: {error}")


def _store_in_home(bundle: InstalledBundle, stamps: Stamps, *, on_note: Note) -> bool:
    if not generation_path(bundle.hf_home, bundle.name, bundle.digest).exists():
        return False  # Removed meanwhile, or of a version without generations.
    try:
        write_home_stamps(bundle, stamps)
    except OSError as error:
        on_note(f"note: stamps cannot be written in {bundle.hf_home}: {error}")
        return False
    return True
