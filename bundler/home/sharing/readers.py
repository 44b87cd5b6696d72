"""Who cannot read what was installed, though the home is open to them.

Whom an admin means is what the home's own folder says: its group, if that may read it or the folder has the setgid bit,
and all users, if they may read it. A umask of 077, or a file that another one has made under it, closes what is in it.
"""

from __future__ import annotations

import grp
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bundler.home.sharing.places import read_status

_GROUP, _OTHERS = 3, 0  # by how many bits their part of a mode is shifted


@dataclass(frozen=True)
class Closed:
    """A part of what was installed that some readers cannot get at.

    Attributes:
        readers: Who, in words.
        count: How many files and folders.
        first: The first of them.
        remedy: The least that opens it, as a command.
    """

    readers: str
    count: int
    first: str
    remedy: str

    def __str__(self) -> str:
        what = "a file or folder is" if self.count == 1 else f"{self.count:,} files and folders are"
        place = self.first if self.count == 1 else f"the first is {self.first}"
        return (
            f"{self.readers} cannot read what is installed: {what} closed to them: {place}. To open: {self.remedy}"
        )


def find_closed(hf_home: Path, places: Iterable[str], gid: int | None) -> list[Closed]:
    """Return which of the readers that the home is open to cannot read one of `places`.

    Args:
        hf_home: The cache root.
        places: Folders and files that they need.
        gid: The group that was named for it; its members must get through the folders above the home, too.
    """
    home = hf_home.stat()
    meant = []
    if gid is not None or home.st_mode & stat.S_ISGID or _is_open(home.st_mode, _GROUP):
        meant.append(_GROUP)
    if _is_open(home.st_mode, _OTHERS):
        meant.append(_OTHERS)
    closed: dict[int, list[str]] = {who: [] for who in meant}
    for place in places:
        status = read_status(place)
        if status is None or stat.S_ISLNK(status.st_mode):
            continue
        for who in meant:
            # For members of the home's group a file of another group is one of others.
            part = who if status.st_gid == home.st_gid else _OTHERS
            if not _is_open(status.st_mode, part):
                closed[who].append(place)
    found = [_describe(who, home.st_gid, hf_home, closed[who]) for who in meant if closed[who]]
    if gid is not None:
        found += _find_shut_parents(hf_home, gid)
    return found


def _is_open(mode: int, part: int) -> bool:
    needed = 0o5 if stat.S_ISDIR(mode) else 0o4
    return (mode >> part) & needed == needed


def _describe(who: int, gid: int, hf_home: Path, closed: list[str]) -> Closed:
    letter = "g" if who == _GROUP else "o"
    if who == _GROUP:
        readers = f"members of group {_name_group(gid)}"
        remedy = f"`bundle install` again with --group {_name_group(gid)}"
    else:
        readers, remedy = "other users", f"umask 022, and chmod -R o+rX {hf_home}"
    if len(closed) == 1:
        remedy = f"chmod {letter}+rX {closed[0]}"
    return Closed(readers, len(closed), closed[0], remedy)


def _find_shut_parents(hf_home: Path, gid: int) -> list[Closed]:
    """Return the folders above the home that members of the group cannot pass through."""
    found = []
    for parent in reversed(hf_home.resolve().parents):
        status = parent.stat()
        bit = stat.S_IXGRP if status.st_gid == gid else stat.S_IXOTH
        if not status.st_mode & bit:
            remedy = f"chmod {'g' if status.st_gid == gid else 'o'}+x {parent}"
            found.append(Closed(f"members of group {_name_group(gid)}", 1, str(parent), remedy))
    return found


def _name_group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
