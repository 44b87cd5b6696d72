"""Whose files a home uses, and what in it is not to be trusted.

Rule book:

* trusted are root, the owner of the home's folder, whoever runs the command, and, where the home's group may write to
  that folder, the members of the group. Who is trusted may put anything there: verification finds what is wrong, and
  what is changed after it, it cannot find;
* what belongs to anybody else, link, folder or file, is not used: it can be changed at any time;
* a link that is followed for writing must not be a member's either, or a member could lead root out of the home;
* what every user may write to is not used, whoever owns it. A folder with the sticky bit may be written to by all, like
  /tmp: what is in it is judged by its own owner and mode.

`docs/home.md` says it object by object.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import UntrustedError
from bundler.files.access import get_user_name, raise_unless_absent
from bundler.files.atomic import TEMPORARY_PREFIX
from bundler.plan.folders import BUNDLES_FOLDER, CONTENT_FOLDERS
from bundler.text.wording import and_more

if TYPE_CHECKING:
    from bundler.plan.layout import Layout, RepoLayout

# All numbers that a user can have; a user namespace that maps fewer shows the others as one.
_ALL_USERS = 2**32 - 1


@dataclass(frozen=True)
class Distrust:
    """Why something is not to be trusted.

    Attributes:
        reason: In words.
        remedy: The least that makes it trusted: a command, without the path.
    """

    reason: str
    remedy: str


class TrustedUsers:
    """The users whose files a home uses, as this process sees it.

    Args:
        hf_home: The cache root; it need not be there.
    """

    def __init__(self, hf_home: Path) -> None:
        self.hf_home = hf_home
        self._owners = {0, os.geteuid(), *_unmapped_users()}
        self._judged: dict[tuple[int, int, int, bool], Distrust | None] = {}
        self._owner: int | None = None
        self._writing_group: int | None = None
        try:
            status = hf_home.stat()
        except OSError as error:
            raise_unless_absent(error)
            return
        self._owner = status.st_uid
        self._owners.add(status.st_uid)
        if status.st_mode & stat.S_IWGRP:
            self._writing_group = status.st_gid

    def judge(self, status: os.stat_result, *, is_written_through: bool = False) -> Distrust | None:
        """Return why something is not to be trusted; None if it is.

        Args:
            status: Of the thing itself: `os.lstat`.
            is_written_through: Whether a link would be followed for writing.
        """
        # Of 100,000 names nearly all are alike.
        kind = (status.st_uid, status.st_gid, status.st_mode, is_written_through)
        if kind not in self._judged:
            self._judged[kind] = self._judge(status, is_written_through)
        return self._judged[kind]

    def _judge(self, status: os.stat_result, is_written_through: bool) -> Distrust | None:
        mode = status.st_mode
        is_link = stat.S_ISLNK(mode)
        if status.st_uid not in self._owners and not (
            self._is_member(status) and not (is_link and is_written_through)
        ):
            owner = get_user_name(self._owners_name())
            return Distrust(
                f"{_name_kind(mode)} of {get_user_name(status.st_uid)}, whom this home does not trust",
                f"chown {'-h ' if is_link else ''}{owner}",
            )
        if not is_link and mode & stat.S_IWOTH and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            return Distrust(
                f"{_name_kind(mode)} that every user may change: mode {mode & 0o7777:04o}", "chmod o-w"
            )
        return None

    def judge_place(self, place: str | Path, *, is_written_through: bool = False) -> Distrust | None:
        """Return why what stands at a place, or what a link there leads to, is not to be trusted.

        What is not there is no problem: nobody can use it.
        """
        try:
            status = os.lstat(place)
            distrust = self.judge(status, is_written_through=is_written_through)
            if distrust is None and stat.S_ISLNK(status.st_mode):
                return self.judge(os.stat(place), is_written_through=is_written_through)  # noqa: PTH116 -- strings
        except OSError as error:
            raise_unless_absent(error)
            return None
        return distrust

    def check_file(self, path: Path) -> None:
        """Refuse a file that decides something, and is not to be trusted.

        Raises:
            UntrustedError: It is not.
        """
        if distrust := self.judge_place(path):
            raise _make_error([(path, distrust)])

    def check_home(self) -> None:
        """Refuse a home with folders that hold all the rest, or links in place of them, that are not to be trusted.

        Raises:
            UntrustedError: All of these are named.
        """
        places = [self.hf_home, *(self.hf_home / name for name in (*CONTENT_FOLDERS, BUNDLES_FOLDER))]
        try:
            places += [
                Path(entry.path)
                for entry in os.scandir(self.hf_home / BUNDLES_FOLDER)
                if not entry.name.startswith(TEMPORARY_PREFIX) and entry.is_dir()
            ]
        except OSError as error:
            raise_unless_absent(error)
        self._check_folders(places)

    def check_content(self, content: Layout) -> None:
        """Refuse folders of repos, in the shared view, that are not to be trusted: they will be written to.

        Raises:
            UntrustedError: All of these are named.
        """
        self._check_folders(
            self.hf_home / folder for repo in content.repos for folder in list_folders(self.hf_home, repo)
        )

    def _check_folders(self, places: Iterable[Path]) -> None:
        found = []
        for place in places:
            # What the home itself is called is the caller's word.
            target = place.resolve() if place == self.hf_home else place
            if distrust := self.judge_place(target, is_written_through=True):
                found.append((place, distrust))
        if found:
            raise _make_error(found)

    def _owners_name(self) -> int:
        return os.geteuid() if self._owner is None else self._owner

    def _is_member(self, status: os.stat_result) -> bool:
        if self._writing_group is None:
            return False
        member = _is_in_group(status.st_uid, self._writing_group)
        # In a container that knows no other users: nobody outside the group could give it the group.
        return status.st_gid == self._writing_group if member is None else member


def list_folders(root: Path, repo: RepoLayout) -> Iterator[str]:
    """Yield the folders below `root` that hold the names and the content of a repo, outer ones first.

    Its other names are links, which nobody writes through; where one is a folder of its own, it is listed too.
    """
    names = [item.path for item in (*repo.blobs, *repo.snapshots, *repo.markers, *repo.ref_texts())]  # type: ignore[attr-defined]
    parents = list(_list_parents([*names, *repo.tree_paths()], repo.folder))
    for folder in repo.hub_folders:
        if folder != repo.folder and os.path.islink(root / folder):  # noqa: PTH114 -- as below
            continue
        yield from (repo.path_in(folder, parent) for parent in parents)
    for blob in repo.prepared[:1]:
        top = "/".join(blob.path.split("/", 2)[:2])
        yield from _list_parents([item.path for item in repo.prepared], top)


def _list_parents(paths: Iterable[str], top: str) -> Iterator[str]:
    seen = {""}
    for path in paths:
        folder = path.rpartition("/")[0]
        if folder in seen:
            continue
        parts = folder.split("/")
        for count in range(top.count("/") + 1, len(parts) + 1):
            parent = "/".join(parts[:count])
            if parent not in seen:
                seen.add(parent)
                yield parent


def _make_error(found: list[tuple[Path, Distrust]]) -> UntrustedError:
    lines = [f"{path} is {distrust.reason}" for path, distrust in found]
    commands = [f"{distrust.remedy} {path}" for path, distrust in found]
    return UntrustedError(
        "\n  ".join(and_more(lines)),
        hint=f"look at what is there; if it is good: {' && '.join(commands[:3])}"
        f"{' and so on' if len(commands) > 3 else ''}. Where a file system keeps no modes, mount it with umask=022",
    )


def _name_kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    return "a folder" if stat.S_ISDIR(mode) else "a file"


@lru_cache(maxsize=256)
def _is_in_group(uid: int, gid: int) -> bool | None:
    """Tell whether a user is a member of a group; None if this machine does not know the user."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return None
    try:
        return gid in os.getgrouplist(user.pw_name, user.pw_gid) or user.pw_name in grp.getgrgid(gid).gr_mem
    except (KeyError, OSError):
        return False


@lru_cache(maxsize=1)
def _unmapped_users() -> frozenset[int]:
    """Return the number that stands for all users whom this user namespace does not know, if there are such."""
    try:
        lines = Path("/proc/self/uid_map").read_text("ascii").splitlines()
        if sum(int(line.split()[2]) for line in lines) < _ALL_USERS:
            return frozenset({int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))})
    except (OSError, ValueError, IndexError):
        pass
    return frozenset()
