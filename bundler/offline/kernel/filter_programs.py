"""The programs of the seccomp filters, for the kernel's packet machine (classic BPF).

A program sees the number and the arguments of a call, and not what an argument points to, so it can only pick out the
calls that somebody must look at. An instruction here is (code, operand, label to jump to if true); a string is a label.

See seccomp(2), and Documentation/userspace-api/seccomp_filter.rst of the kernel.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

from bundler.offline.kernel.system_calls import (
    CLONE_NEWNET,
    FAMILIES,
    INTERNET,
    MACHINES,
    OPTIONS,
    PROTOCOLS_BY_OPTION,
    SOCKET_TYPE_MASK,
    SOCKETCALLS,
    TALK_FAMILY,
    X86_64,
    Abi,
)

_RET_ALLOW = 0x7FFF0000
_RET_NOTIFY = 0x7FC00000
_RET_ERRNO = 0x00050000

_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32_BIT = 0x40000000
_ENOKEY = 126

_Line = str | tuple[int, int, str | None]


def whole_filter() -> bytes:
    """Hand over what can reach another machine: the filter of the kind `seccomp`."""
    targets = dict.fromkeys(("bind", "connect", "sendmsg", "sendmmsg", "request_key", "pidfd_getfd"), "notify")
    targets |= {name: name for name in ("sendto", "socket", "socketcall", "setsockopt")}
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
            *_options("notify"),
            *_socket("notify"),
            *_socketcall(tuple(SOCKETCALLS), "notify"),
            *_returns(_RET_NOTIFY),
        ]
    )


def namespace_filter(*, notify: bool) -> bytes:
    """Hand over what a network namespace does not hold, or does not count: the filter beside the kind `netns`.

    Args:
        notify: Whether a supervisor answers. Without one such sockets are refused, which nobody counts, and namespaces
            of a program's own are let be.
    """
    targets = {"socket": "socket", "socketcall": "socketcall", "request_key": "no key", "io_uring_setup": "absent"}
    if notify:
        namespaces = {"unshare": "unshare", "clone": "unshare", "setns": "setns", "clone3": "absent"}
        targets |= namespaces | {"request_key": "notify", "pidfd_getfd": "notify"}
    return _assemble(
        [
            *_by_abi(targets),
            "unshare",
            _low(0),
            (_IF_ANY_BIT, CLONE_NEWNET, "notify"),
            *_always("allow"),
            "setns",
            # Of any kind that the descriptor has, or of these.
            _low(1),
            _if_equal(0, "notify"),
            (_IF_ANY_BIT, CLONE_NEWNET, "notify"),
            *_always("allow"),
            *_socket("notify", more=() if notify else (TALK_FAMILY,)),
            *_socketcall((1,) if notify else (), "notify"),
            "no key",
            _return(_RET_ERRNO | _ENOKEY),
            *_returns(_RET_NOTIFY if notify else _RET_ERRNO | errno.EPERM),
        ]
    )


def filter_without_datagrams() -> bytes:
    """Refuse by family, type, protocol and flags, which are numbers and not pointers: the filter beside `landlock`."""
    # A send that connects on the way, which Landlock does not ask about.
    fast_open = 0x20000000
    sends = {"sendto": "fourth", "sendmmsg": "fourth", "sendmsg": "third"}
    others = {name: name for name in ("socket", "socketcall", "setsockopt")}
    others |= {"io_uring_setup": "absent", "request_key": "no key"}
    return _assemble(
        [
            *_by_abi(sends | others),
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
            *(_if_equal(family, "allow") for family in (*FAMILIES.values(), TALK_FAMILY)),
            *_always("refuse"),
            "internet",
            _low(1),
            (_AND, SOCKET_TYPE_MASK, None),
            _if_equal(socket.SOCK_STREAM, "stream"),
            *_always("refuse"),
            "stream",
            _low(2),
            _if_equal(0, "allow"),
            _if_equal(socket.IPPROTO_TCP, "allow"),
            *_always("refuse"),
            *_options("refuse"),
            "socketcall",
            # Its arguments lie behind a pointer: 32-bit programs that use it get no new sockets at all, and do not send
            # with flags.
            _low(0),
            *(
                _if_equal(number, "refuse")
                for number, name in SOCKETCALLS.items()
                if name not in ("bind", "connect")
            ),
            "allow",
            _return(_RET_ALLOW),
            "no key",
            _return(_RET_ERRNO | _ENOKEY),
            "refuse",
            _return(_RET_ERRNO | errno.EACCES),
            "absent",
            _return(_RET_ERRNO | errno.ENOSYS),
        ]
    )


def filter_without_unix_sockets() -> bytes:
    """Refuse UNIX sockets but pairs, and io_uring, which makes them too; no supervisor is needed."""
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


def _socket(refuse: str, more: tuple[int, ...] = ()) -> list[_Line]:
    """Tell sockets whose calls are judged, or that stay on the machine, from all others.

    A filter without a supervisor lets `more` through: a refusal here would keep a question from an outer one's.
    """
    others = [family for family in FAMILIES.values() if family not in INTERNET]
    return [
        "socket",
        _low(0),
        *(_if_equal(family, "internet") for family in INTERNET),
        *(_if_equal(family, "allow") for family in (*others, *more)),
        *_always(refuse),
        "internet",
        _low(1),
        (_AND, SOCKET_TYPE_MASK, None),
        _if_equal(socket.SOCK_STREAM, "protocol"),
        _if_equal(socket.SOCK_DGRAM, "protocol"),
        *_always(refuse),
        "protocol",
        _low(2),
        *(_if_equal(protocol, refuse) for protocol in PROTOCOLS_BY_OPTION),
        *_always("allow"),
    ]


def _options(refuse: str) -> list[_Line]:
    """Tell the options that make the kernel send from all others."""
    levels = sorted({level for level, _ in OPTIONS})
    lines: list[_Line] = ["setsockopt", _low(1), *(_if_equal(level, f"options {level}") for level in levels)]
    lines += _always("allow")
    for level in levels:
        numbers = [number for of_level, number in OPTIONS if of_level == level]
        lines += [
            f"options {level}",
            _low(2),
            *(_if_equal(number, refuse) for number in numbers),
            *_always("allow"),
        ]
    return lines


def _socketcall(numbers: tuple[int, ...], refuse: str) -> list[_Line]:
    return ["socketcall", _low(0), *(_if_equal(number, refuse) for number in numbers), *_always("allow")]


def _returns(notify: int) -> list[_Line]:
    absent = _return(_RET_ERRNO | errno.ENOSYS)
    return ["allow", _return(_RET_ALLOW), "notify", _return(notify), "absent", absent]


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
    native, compat, _ = MACHINES[platform.machine()]
    x32: list[_Line] = [(_IF_AT_LEAST, _X32_BIT, "absent")] if native is X86_64 else []
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
