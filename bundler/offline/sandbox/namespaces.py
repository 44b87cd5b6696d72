"""A root of its own, in which nothing but the visible files exists, and no process but the program's own.

In order: namespaces for users, mounts, processes and shared memory; a fork, since only children are in the new
process namespace; an empty root in memory; a /dev of five harmless devices, and a folder in memory for files that
processes share; the visible files, mounted for reading or for writing; a /proc that shows the new namespace, not
writable; the old root let go; capabilities
given up. When the first process in it ends, the kernel kills all others.

See unshare(2), pid_namespaces(7), mount_namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from bundler.offline.sandbox.descendants import become_keeper, die_with_parent
from bundler.offline.sandbox.privileges import drop_privileges
from bundler.offline.sandbox.system_calls import (
    ATTR_NODEV,
    ATTR_NOSUID,
    ATTR_RDONLY,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    change_root,
    mount,
    set_mount_attributes,
    unshare,
)
from bundler.offline.sandbox.visible import Visible

_LEAST_PID_MAX = 301
_SHARED = "dev/shm"
_MOST_SHARED_BYTES = 256 << 20
# What an empty file is counted as.
_LEAST_FILE_BYTES, _LEAST_FILES = 4096, 100
# No terminal: who holds it could type into it.
_DEVICES = ("null", "zero", "full", "random", "urandom")
_MS_RDONLY, _MS_REMOUNT = 0x1, 0x20
# As the kernel itself counts before it calls a path a loop.
_MOST_LINKS = 40


def enter_namespaces(
    visible: Visible, root: Path, most_tasks: int | None = None, most_shared_bytes: int = _MOST_SHARED_BYTES
) -> None:
    """Confine the calling process, which must have a single thread; it returns in a child that is process 1.

    The caller itself waits for that child and ends with its exit code.

    Args:
        visible: The files.
        root: An empty folder to put the new root on.
        most_tasks: How many threads there may be in it, where the kernel can hold that for each namespace.
        most_shared_bytes: How much files in its /dev/shm may hold; never more than 256 MiB.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    _unshare_as_anybody(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC)
    die_with_parent()
    if child := os.fork():
        become_keeper(child)
    _make_root(visible, root, most_tasks, min(most_shared_bytes, _MOST_SHARED_BYTES))
    change_root(root)
    drop_privileges()
    die_with_parent()


def _unshare_as_anybody(flags: int) -> None:
    """Make namespaces with a user namespace around them, or, where there is none to be had, as root."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(flags | CLONE_NEWUSER)
    except OSError as error:
        try:
            unshare(flags)
        except OSError:
            raise error from None
        return
    # A process may map its own ids only, and its gid only after giving up setgroups(2).
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _make_root(visible: Visible, root: Path, most_tasks: int | None, most_shared_bytes: int) -> None:
    # Mounts of the outside may appear inside where they would anyhow; ours must not appear outside.
    mount(None, Path("/"), None, MS_REC | MS_SLAVE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m")
    # First, as a store may be in /dev/shm.
    _make_devices(root / "dev", _DEVICES)
    _make_shared(root / _SHARED, most_shared_bytes)
    shown = _Shown(root)
    for path in visible.read:
        shown.show(path, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    for path in visible.write:
        shown.show(path, ATTR_NOSUID | ATTR_NODEV)
    proc = root / "proc"
    proc.mkdir(exist_ok=True)
    mount("proc", proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if most_tasks is not None and holds_tasks():
        # Numbers up to 300 are not given again, so a namespace cannot have fewer.
        (proc / "sys/kernel/pid_max").write_text(str(max(most_tasks, _LEAST_PID_MAX)))
    # Root's own user id may write settings of the whole machine there, without any capability.
    set_mount_attributes(proc, ATTR_RDONLY)
    # Of the mount that is the root; those below it have their own attributes already.
    mount(None, root, None, _MS_REMOUNT | MS_BIND | _MS_RDONLY | MS_NOSUID | MS_NODEV)


def holds_tasks() -> bool:
    """Tell whether the kernel has a limit of threads for each process namespace: from Linux 6.14 on.

    Before, the same file was the limit of the whole machine.
    """
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= (6, 14)


def _make_devices(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        device = Path("/dev", name)
        if device.exists():
            (folder / name).touch()
            mount(str(device), folder / name, None, MS_BIND)
            # It is a file of the machine's, whose mode root's own user id may change; devices take writes all the same.
            set_mount_attributes(folder / name, ATTR_RDONLY | ATTR_NOSUID)
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        (folder / name).symlink_to(f"/proc/self/fd{target}")


def _make_shared(folder: Path, most_bytes: int) -> None:
    folder.mkdir()
    # Empty files take memory too. Some are for folders on the way to what is shown; 0 would mean without end.
    files = max(most_bytes // _LEAST_FILE_BYTES, _LEAST_FILES)
    options = f"mode=1777,size={max(most_bytes, 1)},nr_inodes={files}"
    mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)


def measure_shared(pid: int) -> int:
    """Return how much the files in /dev/shm of a process that has entered namespaces hold; 0 for any other.

    Those that have no name any more are among them.
    """
    root = Path(f"/proc/{pid}/root")
    # Not to be seen at its end, nor where the system forbids it: then its size bounds it.
    with contextlib.suppress(OSError):
        if not root.samefile("/"):
            told = os.statvfs(root / _SHARED)
            return max(
                (told.f_blocks - told.f_bfree) * told.f_frsize, (told.f_files - told.f_ffree) * _LEAST_FILE_BYTES
            )
    return 0


class _Shown:
    """Paths of the old root that are in the new one already."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mounted: dict[Path, int] = {}

    def show(self, path: Path, attributes: int) -> None:
        """Mount `path` at its own name, with the links on the way to it."""
        real = self._make_links(path)
        if not real.exists() or self._attributes(real) == attributes:
            return
        target = self._inside(real)
        if self._attributes(real) is None:
            if real.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
        mount(str(real), target, None, MS_BIND | MS_REC)
        set_mount_attributes(target, attributes)
        self._mounted[real] = attributes

    def _make_links(self, path: Path) -> Path:
        """Give every link on the way to `path` its name inside; return what the path leads to."""
        at, waiting, links = Path("/"), list(path.parts[1:]), 0
        while waiting:
            part = waiting.pop(0)
            if part == "..":
                at = at.parent
                continue
            here = at / part
            if not here.is_symlink() or links == _MOST_LINKS:
                at = here
                continue
            links += 1
            to = here.readlink()
            if self._attributes(here) is None and not self._inside(here).is_symlink():
                self._inside(here.parent).mkdir(parents=True, exist_ok=True)
                self._inside(here).symlink_to(to)
            waiting[:0] = to.parts[1:] if to.is_absolute() else to.parts
            at = Path("/") if to.is_absolute() else at
        return at

    def _inside(self, path: Path) -> Path:
        return self._root / path.relative_to("/")

    def _attributes(self, path: Path) -> int | None:
        """Return the attributes of the mount that shows `path` inside; None if nothing does."""
        for folder in (path, *path.parents):
            if folder in self._mounted:
                return self._mounted[folder]
        return None
