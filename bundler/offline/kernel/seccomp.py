"""Put the seccomp filter on a child and have its calls judged in this process: the talk between the two.

The descriptor of the filter must come from the child to its parent, and a socket cannot bring it: the filter holds
`sendmsg`, with which descriptors are sent, until somebody answers. So the child tells its number through a pipe and
waits, and the parent takes it out of the child (pidfd_getfd). In the child it closes on execution at the latest: with
it a program could be its own judge.

The judge reads the memory of the child and of all its descendants, which Yama (kernel.yama.ptrace_scope=1, the
default of many distributions) grants to ancestors only. So daemons whose parent has gone become children of this
process, not of process 1, as long as the launch lasts. When it ends, so does the supervisor, and what they connect to
from then on is refused by the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from types import TracebackType
from typing import Self

from bundler.offline.kernel.network_namespace import enter_mount_namespace
from bundler.offline.kernel.networks import Reach
from bundler.offline.kernel.probing import problem_with
from bundler.offline.kernel.seccomp_filter import install_with_listener
from bundler.offline.kernel.supervisor import Denial, Supervisor

_PIDFD_GETFD = 438
_PR_SET_CHILD_SUBREAPER = 36
# RFC 5737: an address for documentation, which belongs to nobody.
_OUTSIDE = "198.51.100.1"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class SupervisedFilter:
    """One filter and its supervisor; a context manager in the parent.

    With `names`, programs find this machine and loopback in /etc/hosts: torch asks for the name of every peer, and a
    question that would go to a name server out of reach counts as an attempt.
    """

    def __init__(self, reach: Reach, *, names: bool) -> None:
        self._reach = reach
        self._names = names
        self._number, self._number_writer = os.pipe2(os.O_CLOEXEC)
        self._taken, self._taken_writer = os.pipe2(os.O_CLOEXEC)
        self._supervisor: Supervisor | None = None
        self._denials: tuple[Denial, ...] = ()

    def enter(self) -> None:
        """Put the filter on the calling process; in the child, while the parent calls `attach`.

        Raises:
            OSError: The kernel or the parent refused; `filename` of the error names the step.
        """
        # Else a parent that gives up could not be told from one that takes its time.
        os.close(self._taken_writer)
        if self._names:
            enter_mount_namespace(self._reach.own, self._reach.networks)
        listener = install_with_listener()
        os.write(self._number_writer, struct.pack("i", listener))
        taken = os.read(self._taken, 1)
        os.close(listener)
        if not taken:
            raise PermissionError(1, "the launcher could not take over the filter", "pidfd_getfd")

    def attach(self, child: int) -> None:
        """Take the filter over from `child` and begin to judge.

        Raises:
            OSError: The kernel refused; `filename` of the error names the step.
        """
        os.close(self._number_writer)
        self._number_writer = -1
        number = os.read(self._number, 4)
        if not number:
            return  # the child has failed, and will say why
        listener = _fetch(child, *struct.unpack("i", number))
        self._supervisor = Supervisor(listener, self._reach)
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._supervisor.start()
        os.write(self._taken_writer, b".")

    def stop(self) -> tuple[Denial, ...]:
        """Judge no longer, and return what was refused."""
        if self._supervisor:
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
            self._denials = self._supervisor.stop()
            self._supervisor = None
        return self._denials

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for descriptor in (self._number, self._number_writer, self._taken, self._taken_writer):
            if descriptor >= 0:
                os.close(descriptor)


def problem_with_supervision(*, names: bool) -> str | None:
    """Try filter and supervisor on a forked child and return why they do not work here, or None."""
    with SupervisedFilter(Reach(), names=names) as supervised:

        def enter() -> None:
            supervised.enter()
            _try_out()

        return problem_with(enter, meanwhile=supervised.attach)


def _try_out() -> None:
    """See that the filter does its duty: it judges an address before the kernel looks for the socket; none is needed.

    By the C function: an outer launch's guard inside Python would see an attempt, and one that Landlock holds has no
    datagram sockets.
    """
    if _connect("127.0.0.1") != errno.EBADF:
        text = "loopback was refused too: the launcher may not read its child's memory"
        raise OSError(errno.EPERM, text, "connect")
    if _connect(_OUTSIDE) != errno.ENETUNREACH:
        raise RuntimeError("an address outside was let through")


def _connect(host: str) -> int:
    """Connect no socket to a host, and return the error."""
    # struct sockaddr_in: family, port, address, padding.
    address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 9, socket.inet_aton(host))
    _libc.connect(-1, address, len(address))
    return ctypes.get_errno()


def _fetch(child: int, number: int) -> int:
    process = os.pidfd_open(child)
    try:
        words = [ctypes.c_long(value) for value in (_PIDFD_GETFD, process, number, 0)]
        descriptor: int = _libc.syscall(*words)
    finally:
        os.close(process)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "pidfd_getfd")
    return descriptor
