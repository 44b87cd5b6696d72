"""A home of a group: what is installed belongs to the group, and its members can read it.

The folders get the setgid bit, so that the kernel gives the group whatever is made in them, by whomever and with
whatever command. The umask decides the rest, as ever: whether members may write, which installing is, and what all
others may do.
"""

from __future__ import annotations

import contextlib
import grp
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from bundler.errors import UsageError
from bundler.home.sharing.places import list_places, list_shared_folders, read_status
from bundler.home.sharing.readers import Closed, find_closed
from bundler.plan.layout import Layout

_READ = stat.S_IRGRP
_ENTER = stat.S_IRGRP | stat.S_IXGRP


def find_group(name: str) -> int:
    """Return the number of a group that this process may give files to.

    Args:
        name: Its name or number.

    Raises:
        UsageError: There is no such group, or this user is not in it.
    """
    try:
        group = grp.getgrgid(int(name)) if name.isdecimal() else grp.getgrnam(name)
        gid, shown = group.gr_gid, group.gr_name
    except KeyError:
        if not name.isdecimal():
            raise UsageError(
                f"no group {name!r} on this machine", hint="`getent group` lists them; a number will do too"
            ) from None
        gid, shown = int(name), name
    if os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
        raise UsageError(
            f"you are not in group {shown}, and so cannot give it files",
            hint="let a member install, or name a group of yours: `id -Gn` lists them",
        )
    return gid


@contextlib.contextmanager
def let_group_read(gid: int | None) -> Iterator[None]:
    """While the block runs, make files and folders that their group can read, whatever the umask says of it.

    Args:
        gid: The group; None to leave the umask as it is.
    """
    umask = _read_umask()
    if gid is not None:
        os.umask(umask & ~_ENTER)
    try:
        yield
    finally:
        os.umask(umask)


def prepare_sharing(hf_home: Path, content: Layout, gid: int | None) -> None:
    """Give the group the folders that are there, so that what is made in them is the group's from the start.

    Raises:
        PermissionError: The home's own folder is somebody else's, and would have to be changed.
    """
    if gid is not None:
        _give(list_shared_folders(hf_home, content), gid)


def finish_sharing(
    hf_home: Path, name: str, digest: str, content: Layout, view: Path, gid: int | None
) -> tuple[Closed, ...]:
    """Give the group what was installed, too where it was there before, and tell who cannot read it for all that.

    Args:
        hf_home: The cache root.
        name: The bundle's name.
        digest: The bundle's digest.
        content: What it holds.
        view: The root of its view; `hf_home` where it has none.
        gid: The group; None to change nothing, and only tell.
    """
    places = list(list_places(hf_home, name, digest, content, view))
    if gid is not None:
        _give(places, gid)
    return tuple(find_closed(hf_home, places, gid))


def _give(places: Iterable[str], gid: int) -> None:
    """Give folders and files to a group, and let it read them; where the umask lets it write, into folders too.

    The home's own folder comes first. What else belongs to somebody else, and is closed, stays so. Links are left
    alone: whoever made one chooses for what it leads to.
    """
    may_write = not _read_umask() & stat.S_IWGRP
    for number, place in enumerate(places):
        status = read_status(place)
        if status is None or stat.S_ISLNK(status.st_mode):
            continue
        mode = stat.S_IMODE(status.st_mode)
        wanted = mode | _READ
        if stat.S_ISDIR(status.st_mode):
            wanted = mode | _ENTER | stat.S_ISGID | (stat.S_IWGRP if may_write else 0)
        try:
            if status.st_gid != gid:
                os.chown(place, -1, gid, follow_symlinks=False)
            if mode != wanted:
                os.chmod(place, wanted)  # noqa: PTH101 -- strings, since they are many
        except PermissionError:
            if number == 0:
                raise


def _read_umask() -> int:
    # There is no way to ask for it but to set it.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
