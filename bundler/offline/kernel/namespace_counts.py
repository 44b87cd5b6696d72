"""Count what the kernel refused in a network namespace: sockets of any program that found no route out.

The namespace's own statistics (`OutNoRoutes` of IPv4 and IPv6 in /proc/net/snmp and snmp6) grow by one for each
connect or send that had nowhere to go, whichever program made it. They name no process and no target; the guard
inside Python does, for what it refuses before the kernel sees it, so the two figures never count one attempt twice.

The files are opened inside the namespace by the child and handed to the parent over a UNIX socket: an open file
keeps the namespace's figures readable after its last process is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

# Port and address of a struct sockaddr_in.
_NOWHERE = struct.pack("!H4s8x", 9, socket.inet_aton("198.51.100.1"))
_FILES = ("/proc/self/net/snmp", "/proc/self/net/snmp6")


class KernelCounts:
    """Figures of the network namespace that a child will enter.

    Use as a context manager in the parent; call `send_from_child` in the child once it is in the namespace, and
    `receive` in the parent meanwhile.
    """

    def __init__(self) -> None:
        self._parent, self._child = socket.socketpair()
        self._files: list[int] = []
        self._baseline = 0

    def send_from_child(self) -> None:
        """Hand the namespace's statistics to the parent, and wait until it has read them.

        Raises:
            OSError: The parent has gone.
        """
        files = []
        for path in _FILES:
            # A kernel without IPv6 has no snmp6.
            with contextlib.suppress(FileNotFoundError):
                files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        # Else the parent would be waited for in vain, were it to give up.
        self._parent.close()
        socket.send_fds(self._child, [b"."], files)
        # What a fast program tries must come after what counts as zero.
        if not self._child.recv(1):
            raise PermissionError(1, "the launcher could not read the namespace's statistics", "snmp")
        for file in files:
            os.close(file)

    def receive(self) -> None:
        """Take the statistics over, and let the child go on; what they show now counts as zero."""
        self._child.close()
        message, self._files, _, _ = socket.recv_fds(self._parent, 1, len(_FILES))
        if not message:
            return  # the child has failed, and will say why
        self._baseline = self._total()
        self._parent.send(b".")

    def count_refused(self) -> int:
        """Return how many connects and sends found no route since `receive`."""
        return self._total() - self._baseline

    def _total(self) -> int:
        return sum(_out_no_routes(os.pread(file, 1 << 16, 0).decode("ascii")) for file in self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent.close()
        self._child.close()
        for file in self._files:
            os.close(file)


def check_that_it_counts() -> None:
    """Try to reach an address of the outside from within a network namespace, and see that the kernel has counted it.

    Raises:
        OSError: It has not, as in gVisor, which shows figures and does not keep them.
    """
    before = _read_total()
    # By C, since the guard of an outer launch would count it; to a documentation network (RFC 5737), sending nothing.
    libc = ctypes.CDLL(None)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        libc.connect(sock.fileno(), struct.pack("=H", sock.family) + _NOWHERE, 16)
    if _read_total() == before:
        raise OSError(errno.ENODATA, "refusals are not counted", _FILES[0])


def _read_total() -> int:
    total = 0
    for path in _FILES:
        with contextlib.suppress(FileNotFoundError), Path(path).open(encoding="ascii") as file:
            total += _out_no_routes(file.read())
    return total


def _out_no_routes(text: str) -> int:
    """Read the figure from either format: two lines of names and numbers (snmp), or one pair a line (snmp6)."""
    lines = [line.split() for line in text.splitlines()]
    for names, numbers in itertools.pairwise(lines):
        if names and names[0] == "Ip:" and "OutNoRoutes" in names:
            return int(numbers[names.index("OutNoRoutes")])
    for fields in lines:
        if fields[:1] == ["Ip6OutNoRoutes"]:
            return int(fields[1])
    return 0
