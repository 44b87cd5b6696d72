"""Landlock: the kernel lets a process and its children connect by TCP to some ports only.

It needs no root and no supervisor, and a running program can put it on itself. But it knows ports and no addresses:
connections to this machine and to outside look the same to it. What tells them apart well enough against accidents is
that the outside's services, web, proxies' tunnels and name servers, sit on ports below 1024, and those of a job
(rendezvous, gloo, NCCL) above. Landlock up to now knows TCP only, so the datagrams of name look-ups and QUIC are
taken away together with it, by a seccomp filter that refuses to make a socket for them.

See landlock(7) and Documentation/userspace-api/landlock.rst of the kernel; TCP came with ABI 4, in Linux 6.7.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

from bundler.offline.kernel import seccomp_filter
from bundler.offline.kernel.filter_programs import filter_without_datagrams

# The numbers are the same on every architecture that counts them up since Linux 5.1.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_NET_PORT = 2
_CONNECT_TCP = 1 << 1
_MIN_ABI = 4

FIRST_PORT = 1024


def why_not() -> str | None:
    """Return why Landlock cannot do it on this machine, or None."""
    if sys.platform != "linux":
        return f"{sys.platform} has no Landlock"
    try:
        abi = _syscall("landlock", _CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        return f"no Landlock in this kernel: {error.strerror}"
    if abi < _MIN_ABI:
        return f"its Landlock has ABI {abi}, which knows no TCP; {_MIN_ABI} is needed (Linux 6.7)"
    return seccomp_filter.why_not()


def prepare() -> None:
    """Make the rules of `enter` already: there are 64,512, and a launch has a core idle while it verifies.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    global _prepared
    if _prepared is None:
        _prepared = _make_ruleset(range(FIRST_PORT, 1 << 16))


def enter() -> None:
    """Refuse the calling thread, and all that it starts from now on, TCP to ports below 1024, and datagrams.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    global _prepared
    prepare()
    assert _prepared is not None
    ruleset, _prepared = _prepared, None
    _restrict(ruleset)
    seccomp_filter.install(filter_without_datagrams())


def try_out() -> None:
    """Do the same with one port, in a moment.

    Raises:
        OSError: As of `enter`.
    """
    _restrict(_make_ruleset(range(FIRST_PORT, FIRST_PORT + 1)))
    seccomp_filter.install(filter_without_datagrams())


def _make_ruleset(ports: range) -> int:
    """Return the descriptor, which an exec closes, of rules that allow connections to these ports."""
    # struct landlock_ruleset_attr: of the file system, of the network.
    ruleset = _syscall("landlock ruleset", _CREATE_RULESET, struct.pack("=QQ", 0, _CONNECT_TCP), 16, 0)
    # What is not allowed is refused, and there are no ranges: a rule for each port, hence no call of `_syscall`, whose
    # conversions would take longer than the kernel does.
    rule = (ctypes.c_uint64 * 2)(_CONNECT_TCP, 0)
    words = [
        ctypes.c_long(_ADD_RULE),
        ctypes.c_long(ruleset),
        ctypes.c_long(_RULE_NET_PORT),
        rule,
        ctypes.c_long(0),
    ]
    add = _libc.syscall
    for port in ports:
        rule[1] = port
        if add(*words) != 0:
            error = _error("landlock rule")
            os.close(ruleset)
            raise error
    return ruleset


def _restrict(ruleset: int) -> None:
    try:
        seccomp_filter.no_new_privileges()
        _syscall("landlock", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


# Rules that are ready to be put in force.
_prepared: int | None = None

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _syscall(step: str, number: int, *arguments: int | bytes | None) -> int:
    # A plain int would be passed in 32 bits, with whatever stands in the rest of the register.
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise _error(step)
    return result


def _error(step: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), step)
