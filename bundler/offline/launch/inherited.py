"""Sockets that a command would inherit: made outside, they reach the outside whatever holds the command.

A namespace holds the sockets that are made in it, a filter judges connects and not what is connected. So of sockets
only those of UNIX are handed on (process managers of MPI talk to their tasks by these), and no ring of io_uring.
Standard streams cannot be closed unnoticed: a command whose output is such a socket is not started.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from bundler.errors import OfflineError

# Also where there is no /proc (macOS); on Linux a link to /proc/self/fd.
_DESCRIPTORS = "/dev/fd"
_NAMES = ("standard input", "standard output", "standard error")


def check_standard_streams() -> None:
    """See that none of the standard streams of this process is a network socket.

    Raises:
        OfflineError: One is.
    """
    for number, name in enumerate(_NAMES):
        if reaches_out(number):
            raise OfflineError(
                f"{name} is a network socket: what the command writes to it would leave this machine, or come from "
                "outside, whatever holds the command",
                hint="put a pipe between: `bundle run ... -- CMD 2>&1 </dev/null | cat`",
            )


def close_inherited_sockets() -> None:
    """Close all descriptors beyond the standard streams that reach out, in a child about to execute a command."""
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 -- names of no files
        number = int(name)
        if number > 2 and reaches_out(number):
            os.close(number)


def reaches_out(descriptor: int) -> bool:
    """Tell whether a descriptor is a socket other than one of UNIX, or a ring of io_uring."""
    try:
        if not os.get_inheritable(descriptor):
            return False
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return _family(descriptor) != socket.AF_UNIX
        return os.readlink(f"{_DESCRIPTORS}/{descriptor}") == "anon_inode:[io_uring]"  # noqa: PTH115 -- no path
    except OSError:
        return False  # not open


def _family(descriptor: int) -> int:
    copy = socket.socket(fileno=os.dup(descriptor))
    with contextlib.closing(copy):
        return copy.family
