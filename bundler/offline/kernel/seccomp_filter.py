"""A seccomp filter that hands to a supervisor each system call by which a socket can reach another machine.

The filter is a program for the kernel's packet machine (classic BPF). It sees the number and the arguments of a call,
and not what an argument points to, so it can only pick out the calls that somebody must look at:

    connect, sendmsg, sendmmsg       handed over
    sendto                           handed over if it has an address; on a connected socket it has none, so that the
                                     traffic of a running job (send, write, writev, sendfile) is not slowed down
    socket                           handed over for families other than the usual ones
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
import socket
import struct
import sys
from dataclasses import dataclass, field

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_FLAG_NEW_LISTENER = 1 << 3
# From Linux 5.19: once the supervisor has the call, only a deadly signal interrupts it, so that it is judged once.
_FLAG_WAIT_KILLABLE = 1 << 5

_RET_ALLOW = 0x7FFF0000
_RET_NOTIFY = 0x7FC00000
_RET_ERRNO = 0x00050000

_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32_BIT = 0x40000000

# Families whose sockets stay on the machine, or whose calls are judged by address. SMC is TCP with a short cut.
FAMILIES = {
    "AF_UNSPEC": 0,
    "AF_UNIX": 1,
    "AF_INET": 2,
    "AF_INET6": 10,
    "AF_NETLINK": 16,
    "AF_ALG": 38,
    "AF_SMC": 43,
}


@dataclass(frozen=True, kw_only=True)
class Abi:
    """How programs of one kind make system calls.

    Attributes:
        audit_arch: The kernel's name of it (linux/audit.h).
        word: Bytes of a pointer.
        calls: Number -> name of the calls that are looked at.
    """

    audit_arch: int
    word: int
    calls: dict[int, str] = field(default_factory=dict)


_I386 = Abi(
    audit_arch=0x40000003,
    word=4,
    calls={
        102: "socketcall",
        359: "socket",
        362: "connect",
        369: "sendto",
        370: "sendmsg",
        345: "sendmmsg",
        425: "io_uring_setup",
    },
)
_X86_64 = Abi(
    audit_arch=0xC000003E,
    word=8,
    calls={41: "socket", 42: "connect", 44: "sendto", 46: "sendmsg", 307: "sendmmsg", 425: "io_uring_setup"},
)
_ARM = Abi(
    audit_arch=0x40000028,
    word=4,
    calls={281: "socket", 283: "connect", 290: "sendto", 296: "sendmsg", 374: "sendmmsg", 425: "io_uring_setup"},
)
_AARCH64 = Abi(
    audit_arch=0xC00000B7,
    word=8,
    calls={198: "socket", 203: "connect", 206: "sendto", 211: "sendmsg", 269: "sendmmsg", 425: "io_uring_setup"},
)
# By `uname -m`: the 64-bit ABI, that of 32-bit programs on the same kernel, the number of seccomp(2).
_MACHINES = {"x86_64": (_X86_64, _I386, 317), "aarch64": (_AARCH64, _ARM, 277)}

# What socketcall(2) multiplexes, by its first argument.
SOCKETCALLS = {1: "socket", 3: "connect", 11: "sendto", 16: "sendmsg", 20: "sendmmsg"}


def why_not() -> str | None:
    """Return why there can be no such filter for this interpreter on this machine, or None."""
    if sys.platform != "linux":
        return f"{sys.platform} has no seccomp"
    machine = platform.machine()
    if machine not in _MACHINES:
        return f"no filter has been written for {machine}, only for {' and '.join(_MACHINES)}"
    if sys.maxsize < 2**32:
        return "this Python is a 32-bit program"
    return None


def abis() -> dict[int, Abi]:
    """Return the ABIs of this machine by their `audit_arch`."""
    native, compat, _ = _MACHINES[platform.machine()]
    return {abi.audit_arch: abi for abi in (native, compat)}


def install_with_listener() -> int:
    """Put the filter on the calling thread, which must be the only one, and return the supervisor's descriptor.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step. EBUSY: another supervisor is there.
    """
    try:
        return _install(_program(), _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return _install(_program(), _FLAG_NEW_LISTENER)


def install_without_datagrams() -> None:
    """Put a filter on the calling thread that needs no supervisor: no internet sockets but TCP, no io_uring.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    _install(_program_without_datagrams(), 0)


def install_without_unix_sockets() -> None:
    """Put a filter on the calling thread that needs no supervisor: no UNIX sockets but pairs, no io_uring.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    _install(_program_without_unix_sockets(), 0)


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
    # struct sock_fprog: number of instructions, pointer to them.
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    _, _, number_of_seccomp = _MACHINES[platform.machine()]
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(
        ctypes.c_long(number_of_seccomp), ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER), ctypes.c_ulong(flags), header
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "seccomp filter")
    return result


# Programs. An instruction is (code, operand, label to jump to if true); a string is a label.

_Line = str | tuple[int, int, str | None]


def _load(offset: int) -> _Line:
    return (_LOAD, offset, None)


def _low(argument: int) -> _Line:
    return _load(_ARGUMENTS + 8 * argument)


def _high(argument: int) -> _Line:
    return _load(_ARGUMENTS + 8 * argument + 4)


def _if_equal(value: int, label: str) -> _Line:
    return (_IF_EQUAL, value, label)


def _return(value: int) -> _Line:
    return (_RETURN, value, None)


def _always(label: str) -> list[_Line]:
    return [(_IF_AT_LEAST, 0, label)]


def _dispatch(abi: Abi, targets: dict[str, str]) -> list[_Line]:
    lines = [_if_equal(number, targets[name]) for number, name in abi.calls.items() if name in targets]
    return [_load(_NUMBER), *lines, _return(_RET_ALLOW)]


def _by_abi(targets: dict[str, str]) -> list[_Line]:
    native, compat, _ = _MACHINES[platform.machine()]
    x32: list[_Line] = [(_IF_AT_LEAST, _X32_BIT, "absent")] if native is _X86_64 else []
    return [
        _load(_ARCHITECTURE),
        _if_equal(native.audit_arch, "native"),
        _if_equal(compat.audit_arch, "compat"),
        *_always("absent"),
        "native",
        _load(_NUMBER),
        *x32,
        *_dispatch(native, targets),
        "compat",
        *_dispatch(compat, targets),
    ]


def _program() -> bytes:
    handed = dict.fromkeys(("connect", "sendmsg", "sendmmsg"), "notify")
    targets = handed | {"sendto": "sendto", "socket": "socket", "socketcall": "socketcall"}
    return _assemble(
        [
            *_by_abi(targets | {"io_uring_setup": "absent"}),
            "sendto",
            _low(4),
            _if_equal(0, "sendto high half"),
            *_always("notify"),
            "sendto high half",
            _high(4),
            _if_equal(0, "allow"),
            *_always("notify"),
            "socket",
            _low(0),
            *(_if_equal(family, "allow") for family in FAMILIES.values()),
            *_always("notify"),
            "socketcall",
            _low(0),
            *(_if_equal(number, "notify") for number in SOCKETCALLS),
            "allow",
            _return(_RET_ALLOW),
            "notify",
            _return(_RET_NOTIFY),
            "absent",
            _return(_RET_ERRNO | errno.ENOSYS),
        ]
    )


def _program_without_datagrams() -> bytes:
    """Refuse by family, type, protocol and flags, which are numbers and not pointers."""
    kinds = 0xF  # SOCK_TYPE_MASK: the rest of the argument are flags
    # A send that connects on the way, which Landlock does not ask about.
    fast_open = 0x20000000
    sends = {"sendto": "fourth", "sendmmsg": "fourth", "sendmsg": "third"}
    return _assemble(
        [
            *_by_abi(sends | {"socket": "socket", "io_uring_setup": "absent", "socketcall": "socketcall"}),
            "third",
            _low(2),
            (_IF_ANY_BIT, fast_open, "refuse"),
            *_always("allow"),
            "fourth",
            _low(3),
            (_IF_ANY_BIT, fast_open, "refuse"),
            *_always("allow"),
            "socket",
            _low(0),
            _if_equal(socket.AF_INET, "internet"),
            _if_equal(socket.AF_INET6, "internet"),
            *(_if_equal(family, "allow") for family in FAMILIES.values()),
            *_always("refuse"),
            "internet",
            _low(1),
            (_AND, kinds, None),
            _if_equal(socket.SOCK_STREAM, "stream"),
            *_always("refuse"),
            "stream",
            _low(2),
            _if_equal(0, "allow"),
            _if_equal(socket.IPPROTO_TCP, "allow"),
            *_always("refuse"),
            "socketcall",
            # Its arguments lie behind a pointer: 32-bit programs that use it get no new sockets at all.
            _low(0),
            _if_equal(1, "refuse"),
            "allow",
            _return(_RET_ALLOW),
            "refuse",
            _return(_RET_ERRNO | errno.EACCES),
            "absent",
            _return(_RET_ERRNO | errno.ENOSYS),
        ]
    )


def _program_without_unix_sockets() -> bytes:
    return _assemble(
        [
            *_by_abi({"socket": "socket", "io_uring_setup": "absent", "socketcall": "refuse"}),
            "socket",
            _low(0),
            _if_equal(socket.AF_UNIX, "refuse"),
            _return(_RET_ALLOW),
            "refuse",
            _return(_RET_ERRNO | errno.EACCES),
            "absent",
            _return(_RET_ERRNO | errno.ENOSYS),
        ]
    )


def _assemble(lines: list[_Line]) -> bytes:
    places: dict[str, int] = {}
    instructions: list[tuple[int, int, str | None]] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(instructions)
        else:
            instructions.append(line)
    program = b""
    for place, (code, operand, label) in enumerate(instructions):
        # struct sock_filter: code, how far to jump if true, if false, operand.
        jump = places[label] - place - 1 if label else 0
        program += struct.pack("=HBBI", code, jump, 0, operand)
    return program
