"""Put the seccomp filter on a child and have its calls judged in this process: the talk between the two.

The descriptor of the filter must come from the child to its parent, and a socket cannot bring it: the filter holds
`sendmsg`, with which descriptors are sent, until somebody answers. So the child tells its number through a pipe and
waits, and the parent takes it out of the child (pidfd_getfd). In the child it closes on execution at the latest: with
it a program could be its own judge.

The judge reads the memory of the child and of all its descendants, which Yama (kernel.yama.ptrace_scope=1, the
default of many distributions) grants to ancestors only: a launcher keeps daemons whose parent has gone among its own
children as long as the launch lasts (`bundler.offline.launch.descendants`). When it ends, so does the supervisor, and
what they connect to from then on is refused by the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bundler.offline.kernel.filter_programs import namespace_filter, whole_filter
from bundler.offline.kernel.judge import CallJudge, Judge, Witness
from bundler.offline.kernel.networks import Reach
from bundler.offline.kernel.probing import problem_with
from bundler.offline.kernel.seccomp_filter import install_with_listener
from bundler.offline.kernel.supervisor import Denial, Kind, Supervisor, supervised_kind

_PIDFD_GETFD = 438
# RFC 5737: an address for documentation, which belongs to nobody.
_OUTSIDE = "198.51.100.1"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class SupervisedFilter:
    """One filter and its supervisor; a context manager in the parent.

    Args:
        reach: What may be reached.
        kind: Whose filter.
        witness: Only see, and let everything go on.
    """

    def __init__(self, reach: Reach, kind: Kind, *, witness: bool = False) -> None:
        self._reach = reach
        self._judge: CallJudge = Witness() if witness else Judge(reach)
        self._holds = not witness
        self._kind: Kind = kind
        self._number, self._number_writer = os.pipe()
        self._taken, self._taken_writer = os.pipe()
        self._supervisor: Supervisor | None = None
        self._denials: tuple[Denial, ...] = ()
        self.told: dict[int, int] = {}

    def enter(self) -> None:
        """Put the filter on the calling process; in the child, while the parent calls `attach`.

        Raises:
            OSError: The kernel or the parent refused; `filename` of the error names the step.
        """
        # Else a parent that gives up could not be told from one that takes its time.
        os.close(self._taken_writer)
        program = whole_filter() if self._kind == "seccomp" else namespace_filter(notify=True)
        listener = install_with_listener(program)
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
        self._supervisor = Supervisor(listener, self._judge, self._kind, holds=self._holds)
        self._supervisor.start()
        os.write(self._taken_writer, b".")

    def stop(self) -> tuple[Denial, ...]:
        """Judge no longer, and return what was refused."""
        if self._supervisor:
            self._denials = self._supervisor.stop()
            self.told = self._supervisor.told
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


def problem_with_supervision(kind: Kind, before: Callable[[], None] = lambda: None) -> str | None:
    """Try filter and supervisor on a forked child and return why they do not work here, or None.

    Args:
        kind: Whose filter.
        before: What the child does first.
    """
    with SupervisedFilter(Reach(), kind) as supervised:

        def enter() -> None:
            before()
            supervised.enter()
            if supervised_kind() != kind:
                raise RuntimeError("the supervisor does not answer")
            if kind == "seccomp":
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
