"""Calls of the kernel that Python has no function for; each raises OSError with the step as `filename`.

See unshare(2), mount(2), mount_setattr(2), pivot_root(2), prctl(2), capset(2), keyctl(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 0x1, 0x2, 0x4
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 24, 36

_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
# The same number on every architecture that counts them up since Linux 5.1.
_MOUNT_SETATTR = 442
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING = 1
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def failed(step: str) -> OSError:
    """Return the error of the call that has just failed."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), step)


def syscall(step: str, number: int, *arguments: int | bytes | None) -> int:
    """Make a system call by number."""
    # A plain int would be passed in 32 bits, with whatever stands in the rest of the register.
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise failed(step)
    return result


def unshare(flags: int) -> None:
    """Move the calling process into new namespaces."""
    if _libc.unshare(flags) != 0:
        raise failed("unshare")


def mount(source: str | None, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    """Attach a file system, or a folder or file at another name."""
    names = [os.fsencode(text) if text is not None else None for text in (source, str(target), kind)]
    if _libc.mount(*names, ctypes.c_ulong(flags), options.encode() or None) != 0:
        raise failed(f"mount on {target}")


def set_mount_attributes(target: Path, attributes: int) -> None:
    """Restrict a mount and all mounts below it; see mount_setattr(2), Linux 5.12."""
    # struct mount_attr: to set, to clear, propagation, user namespace.
    packed = struct.pack("=QQQQ", attributes, 0, 0, 0)
    path = os.fsencode(target) + b"\0"
    syscall(f"attributes of {target}", _MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, packed, len(packed))


def change_root(root: Path) -> None:
    """Make `root`, a mount, the root of all paths, and let go of the old one; see pivot_root(2)."""
    os.chdir(root)
    if _libc.pivot_root(b".", b".") != 0:
        raise failed("pivot_root")
    if _libc.umount2(b".", _MNT_DETACH) != 0:
        raise failed("unmount of the old root")
    os.chdir("/")


def control(option: int, value: int) -> None:
    """Set an attribute of this process, as prctl(2) of the kernel does."""
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise failed(f"prctl {option}")


def set_no_capabilities() -> None:
    """Give up every capability of the calling thread; see capset(2)."""
    if _libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)) != 0:
        raise failed("capset")


def join_new_keyring() -> None:
    """Leave the keys of this session, as those of Kerberos, behind; see keyctl(2)."""
    number = _KEYCTL.get(platform.machine())
    if number is not None:
        syscall("keyctl", number, _JOIN_SESSION_KEYRING, None)
