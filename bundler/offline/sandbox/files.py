"""Landlock on files: what is not visible cannot be opened, and only the writable folders can be changed.

It needs neither root nor namespaces, which containers refuse more often than not. It is weaker: names and sizes of
other files show, other processes show in /proc without their contents, ownership and modes of the user's files can be
changed, and before Linux 6.12 other processes can be sent signals. UNIX sockets, which it does not know, are refused by
a filter.

See landlock(7); renaming between folders came with ABI 2, truncation with ABI 3 (Linux 6.2), which is the least that
holds; signals with ABI 6.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import sys
from pathlib import Path

from bundler.offline.kernel import seccomp_filter
from bundler.offline.kernel.filter_programs import filter_without_unix_sockets
from bundler.offline.sandbox.descendants import die_with_parent, fork_below_keeper
from bundler.offline.sandbox.privileges import drop_privileges
from bundler.offline.sandbox.system_calls import syscall
from bundler.offline.sandbox.visible import Visible

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_LEAST_ABI, _SCOPES_ABI = 3, 6

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 0x1, 0x2, 0x4, 0x8
_MAKE_CHAR, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
# By ABI: how many rights the kernel knows.
_ALL = {3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_DEVICE = _READ_FILE | _WRITE_FILE
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_NEVER = _MAKE_CHAR | _MAKE_BLOCK | _MAKE_SOCK | _MAKE_FIFO | _IOCTL_DEV
_SCOPES = 0x3  # abstract UNIX sockets, signals

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def abi() -> int:
    """Return the version of Landlock's interface here; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    try:
        return syscall("landlock", _CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def why_not() -> str | None:
    """Return why Landlock cannot hold files on this machine, or None."""
    if (found := abi()) < _LEAST_ABI:
        return f"Landlock of ABI {_LEAST_ABI} is needed (Linux 6.2), found {found or 'none'}"
    return seccomp_filter.why_not()


def holds_signals() -> bool:
    """Tell whether Landlock here keeps signals from other processes."""
    return abi() >= _SCOPES_ABI


def enter_landlock(visible: Visible) -> None:
    """Confine the calling process, which must have a single thread; it returns in a child.

    The caller itself waits for that child, ends what it left running, and ends with its exit code.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    fork_below_keeper()
    drop_privileges()
    _restrict(visible)
    seccomp_filter.install(filter_without_unix_sockets())
    die_with_parent()


def _restrict(visible: Visible) -> None:
    found = abi()
    handled = _ALL[min(found, max(_ALL))]
    # struct landlock_ruleset_attr: of the file system, of the network, scopes.
    attributes = struct.pack("=QQQ", handled, 0, _SCOPES if found >= _SCOPES_ABI else 0)
    # A kernel that does not know the last field wants it absent.
    length = 24 if found >= _SCOPES_ABI else 8
    ruleset = syscall("landlock ruleset", _CREATE_RULESET, attributes[:length], length, 0)
    try:
        for path in (*visible.read, Path("/proc")):
            _allow(ruleset, path, _READ)
        for path in visible.names:
            _allow(ruleset, path, _READ_DIR)
        for name in _DEVICES:
            _allow(ruleset, Path(name), _DEVICE)
        for path in visible.write:
            _allow(ruleset, path, handled & ~_NEVER)
        syscall("landlock", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _OF_FILES
            # struct landlock_path_beneath_attr, packed: rights, descriptor.
            rule = struct.pack("=Qi", rights, descriptor)
            syscall(f"landlock rule for {path}", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(descriptor)
