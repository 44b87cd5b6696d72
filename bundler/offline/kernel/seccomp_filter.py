"""A seccomp filter that hands to a supervisor each system call by which a socket can reach another machine.

The programs are in `filter_programs`. That of the kind `seccomp`:

    connect, sendmsg, sendmmsg       handed over
    sendto                           handed over if it has an address; on a connected socket it has none, so that the
                                     traffic of a running job (send, write, writev, sendfile) is not slowed down
    socket                           handed over for families other than the usual ones, for raw sockets and SCTP
    setsockopt                       handed over for the options that make the kernel send, or send by another device:
                                     joining a multicast group, source routes, a device to go by
    request_key                      handed over: for some keys the kernel has a program of the system ask outside
    io_uring_setup                   "no such call": a ring could connect without any of the calls above
    32-bit programs                  the same calls by the numbers of theirs, `socketcall` among them
    x32 and foreign architectures    "no such call"

All else is allowed; bind, listen and accept too: who may connect to the launch is for others to say. Once there,
the filter cannot be taken away and is inherited by every child and every program that a child executes. If the
supervisor is gone, the kernel answers each call that would be handed over with "no such call".

See seccomp(2), seccomp_unotify(2), and Documentation/userspace-api/seccomp_filter.rst of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from typing import Self

from bundler.offline.kernel.system_calls import MACHINES

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_FLAG_NEW_LISTENER = 1 << 3
# From Linux 5.19: once the supervisor has the call, only a deadly signal interrupts it, so that it is judged once.
_FLAG_WAIT_KILLABLE = 1 << 5


class _Program(ctypes.Structure):
    """struct sock_fprog: the number of instructions, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    @classmethod
    def of(cls, program: bytes) -> Self:
        return cls(len(program) // 8, program)


def why_not() -> str | None:
    """Return why there can be no such filter for this interpreter on this machine, or None."""
    if sys.platform != "linux":
        return f"{sys.platform} has no seccomp"
    machine = platform.machine()
    if machine not in MACHINES:
        return f"no filter has been written for {machine}, only for {' and '.join(MACHINES)}"
    if sys.maxsize < 2**32:
        return "this Python is a 32-bit program"
    return None


def install_with_listener(program: bytes) -> int:
    """Put a filter on the calling thread, which must be the only one, and return the supervisor's descriptor.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step. EBUSY: another supervisor is there.
    """
    try:
        return _install(program, _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return _install(program, _FLAG_NEW_LISTENER)


def install(program: bytes) -> None:
    """Put a filter that needs no supervisor on the calling thread.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    no_new_privileges()
    libc = ctypes.CDLL(None, use_errno=True)
    # By prctl(2): profiles of containers and services that refuse seccomp(2) let it through.
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(_Program.of(program)), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "seccomp filter")


def no_new_privileges() -> None:
    """Give up set-user-ID programs, which the kernel asks for in return.

    Raises:
        OSError: The kernel is too old.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl(no_new_privs)")


def _install(program: bytes, flags: int) -> int:
    no_new_privileges()
    libc = ctypes.CDLL(None, use_errno=True)
    _, _, number_of_seccomp = MACHINES[platform.machine()]
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(
        ctypes.c_long(number_of_seccomp),
        ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_ulong(flags),
        ctypes.byref(_Program.of(program)),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "seccomp filter")
    return result
