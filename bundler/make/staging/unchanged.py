"""Which files of the store need not be hashed again: hashed since this machine started, and not changed since.

    hashed/<etag>.json     BLAKE3 and stamp (`bundler.files.stamp`) of a file when it was hashed, and on which boot

Rule book:

* only large files: hashing a small one costs no more than looking it up;
* a note says something on the machine and boot that wrote it alone. After a power failure a file may be another than
  its stamp says, and on another machine a network file system may know less of changes;
* what is packed is hashed while it is packed, whatever a note says. Where that finds other content all notes go
  (`Unchanged.clear`), so that the next run hashes everything.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from bundler.files.atomic import atomic_write
from bundler.files.owner import Owner
from bundler.files.stamp import Stamp, wait_for_clock

LARGE_BYTES = 1 << 20


class Unchanged:
    """Notes of what was hashed.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, path: Path) -> Stamp | None:
        """Return the stamp of a file that is about to be hashed; None where its hash gets no note."""
        try:
            stamp = Stamp.of(path.stat())
            if stamp.size_bytes < LARGE_BYTES or not Owner.current().knows_boot:
                return None
            # A change in the same tick of the clock would leave the stamp as it is.
            return stamp if wait_for_clock(self._folder, stamp.changed_ns) > stamp.changed_ns else None
        except OSError:  # such as a full disk, where the clock cannot be asked
            return None

    def keep(self, path: Path, blake3: str, stamp: Stamp | None) -> None:
        """Note that a file has this content, if it still is as it was at `begin`; nothing is lost without the note."""
        with contextlib.suppress(OSError):
            if stamp is not None and Stamp.of(path.stat()) == stamp:
                note = {"blake3": blake3, "boot": _boot(), "stamp": stamp}
                # Not synced: notes of another boot say nothing.
                atomic_write(self._note(path), json.dumps(note).encode(), sync=False)

    def holds(self, path: Path, blake3: str) -> bool:
        """Tell whether a file was hashed on this boot, had this BLAKE3, and has not changed since."""
        try:
            note = json.loads(self._note(path).read_bytes())
            expected = {"blake3": blake3, "boot": _boot(), "stamp": list(Stamp.of(path.stat()))}
        except (OSError, ValueError):
            return False
        return bool(note == expected)

    def clear(self) -> None:
        """Forget everything."""
        for path in self._folder.glob("*.json"):
            path.unlink(missing_ok=True)

    def _note(self, path: Path) -> Path:
        return self._folder / f"{path.name}.json"


def _boot() -> str:
    owner = Owner.current()
    return f"{owner.system}-{owner.boot}"
