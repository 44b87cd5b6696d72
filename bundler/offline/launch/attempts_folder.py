"""Where the guards of a launch note what they refuse, and where launches inside it leave their figures.

Rule book:

* a launch inside another makes its folder within the outer one's, which reads all of it: nothing that is tried inside
  is hidden from the outer launch, whatever the inner one was told to do about it;
* an inner launch says when it begins, and at its end what the kernel refused. One that was killed in between counts
  as an attempt, since nobody knows better;
* the name of an outermost folder has the mark of its launcher (`bundler.files.owner`). A launcher that is killed leaves
  its folder, and the next launch of the same user on the same system clears it. What cannot be told to be dead stays:
  the temporary folder may be shared with other machines and containers.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.files.atomic import atomic_write
from bundler.files.bounded import read_bounded
from bundler.files.leftovers import find_stale, make_marked_folder
from bundler.offline.guard.attempts import MOST_NOTE_BYTES, list_folders
from bundler.offline.kernel.supervisor import Denial
from bundler.offline.sandbox.remove_tree import remove_tree
from bundler.offline.variables import ATTEMPTS_DIR

_PREFIX = "bundle-attempts-"
_INNER = "launch-"
_FIGURES = "launch.json"


@dataclass(frozen=True, kw_only=True)
class Inner:
    """What the kernel refused in launches inside one.

    Attributes:
        count: How many connects and sends; a launch that did not live to say so counts as one.
        denials: The same by target and program, where these are known.
    """

    count: int = 0
    denials: tuple[Denial, ...] = ()


def make_folder() -> Path:
    """Make the folder of a launch: inside that of the launch around it, or in the temporary folder."""
    outer = os.environ.get(ATTEMPTS_DIR)
    if outer and Path(outer).is_dir() and os.access(outer, os.W_OK | os.X_OK):
        folder = Path(tempfile.mkdtemp(prefix=_INNER, dir=outer))
        _write_figures(folder, ended=False, count=None, denials=())
        return folder
    _clear_stale()
    return make_marked_folder(_PREFIX)


def end_folder(folder: Path, count: int | None, denials: Sequence[Denial]) -> None:
    """Leave the figures of a launch to the one around it; those of an outermost launch are in its report."""
    if _is_inner(folder):
        # Whose folder was taken away meanwhile has nowhere to leave them; the outer launch sees that for itself.
        with contextlib.suppress(OSError):
            _write_figures(folder, ended=True, count=count, denials=denials)


def remove_folder(folder: Path) -> None:
    """Remove the folder of a launch, inner or not."""
    # A process that outlived the command may still be writing.
    with contextlib.suppress(OSError):
        remove_tree(folder)


@contextlib.contextmanager
def attempts_folder() -> Iterator[Path]:
    """Make the folder of a launch, and remove it at the end; that of an inner one goes with its outer one's."""
    folder = make_folder()
    try:
        yield folder
    finally:
        if not _is_inner(folder):
            remove_folder(folder)


class FolderWatch:
    """Whether a folder is still the one that was made: the programs of a launch can delete it, or put another there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = self._identify()

    def why_gone(self) -> str | None:
        """Return what nobody knows now, or None."""
        if self._identify() == self._made:
            return None
        return f"the notes of refusals inside Python are gone: {self._folder} was removed or replaced"

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = self._folder.lstat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def read_inner(folder: Path) -> Inner:
    """Return the figures of all launches inside the one whose folder this is."""
    count, denials = 0, []
    for inner in sorted(path for path in list_folders(folder)[1:] if _is_inner(path)):
        try:
            figures = json.loads(read_bounded(inner / _FIGURES, MOST_NOTE_BYTES))
            found = [_read_denial(denial) for denial in figures["denials"]]
            own, ended = int(figures["count"] or 0), figures["ended"] is True
            if any(denial.count < 0 for denial in found) or sum(denial.count for denial in found) > own:
                raise ValueError("no launch refuses less than nothing, or less than it has targets for")
            pid, argv = int(figures["pid"]), tuple(map(str, figures["argv"]))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            found, own, ended, pid, argv = [], 0, False, 0, ()
        if not ended:
            target = "unknown: a launch inside this one ended before it could say what the kernel refused"
            own, found = 1, [Denial(call="unknown", target=target, pid=pid, argv=argv, count=1)]
        count += own
        denials += found
    return Inner(count=count, denials=tuple(denials))


def _read_denial(raw: dict[str, Any]) -> Denial:
    return Denial(
        call=str(raw["call"]),
        target=str(raw["target"]),
        pid=int(raw["pid"]),
        argv=tuple(map(str, raw["argv"])),
        count=int(raw["count"]),
    )


def _is_inner(folder: Path) -> bool:
    return folder.name.startswith(_INNER)


def _write_figures(folder: Path, *, ended: bool, count: int | None, denials: Sequence[Denial]) -> None:
    figures = {
        "ended": ended,
        "pid": os.getpid(),
        "argv": sys.orig_argv,
        "count": count,
        "denials": [denial.as_json() for denial in denials],
    }
    atomic_write(folder / _FIGURES, json.dumps(figures).encode())


def _clear_stale() -> None:
    """Remove the folders of this user's launches that were killed."""
    for folder in find_stale(_PREFIX):
        with contextlib.suppress(OSError):  # somebody else clears it too
            remove_tree(folder)
