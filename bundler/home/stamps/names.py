"""Stamps of names alone: of a view that was put together of several, which has no content of its own.

They stand beside the view, in a folder that only its user can write to.
"""

from __future__ import annotations

import contextlib
import stat
import time
from pathlib import Path

from bundler.files.atomic import atomic_write
from bundler.files.bounded import read_bounded
from bundler.files.stamp import Stamp, stamp_tree, wait_for_clock
from bundler.home.stamps.stamps import MOST_BYTES, DamagedStampsError, Stamps, names_hold


class StampedNames:
    """The names below one folder, and whether they are what they were when they were looked at.

    Args:
        root: The folder; it need not be there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root.with_name(f"{root.name}.stamps")
        self._taken: dict[str, Stamp] | None = None

    def hold(self) -> bool:
        """Tell whether all is as it was when it was found right."""
        try:
            stamps = Stamps.loads(read_bounded(self._path, MOST_BYTES))
        except (OSError, DamagedStampsError):
            return False
        return stamps.name == self._root.name and bool(stamps.names) and names_hold(stamps.names, str(self._root))

    def take(self) -> bool:
        """Stamp what is there, before it is looked at; return whether anything is."""
        if not self._root.is_dir():
            return False
        with contextlib.suppress(OSError):
            taken = {
                path: Stamp.of(status)
                for path, status in stamp_tree(self._root)
                if not stat.S_ISLNK(status.st_mode)
            }
            last_ns = max(stamp.changed_ns for stamp in taken.values())
            if wait_for_clock(self._root.parent, last_ns) > last_ns:
                self._taken = taken
        return True

    def keep(self) -> None:
        """Write down what was taken, which was found right; that it cannot be written costs the next launch time."""
        if self._taken is None:
            return
        stamps = Stamps(name=self._root.name, digest="", lock_blake3="", hashed_at=time.time(), names=self._taken)
        with contextlib.suppress(OSError):
            atomic_write(self._path, stamps.dumps(), mode=0o600)
