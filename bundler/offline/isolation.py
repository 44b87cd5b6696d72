"""Below Python: take the network away from a process and all that it starts, with the kernel's own means.

    netns   a network namespace with nothing in it but loopback. Every socket of every program in it, compiled code
            and static binaries too, finds no route to anywhere else. One node only: no other machine is in reach.
    none    nothing; only the guard inside Python is left.

Rule book:

* no external tool and no root: as an ordinary user the network namespace comes with a user namespace, in which the
  caller's uid and gid map to themselves, so that files keep their owner. A process that may make a network
  namespace anyway gets no user namespace;
* the machine's own addresses are put on the namespace's loopback, since programs talk to their own host by its name
  (torchrun's rendezvous does). Packets to them go round inside the namespace;
* `auto` takes the strongest kind that works here, found out by trying; a kind that was asked for by name and does
  not work is an error, never a weaker kind.

This stops accidents of any program, not a program that fights it: root can enter another namespace. Abstract UNIX
sockets belong to the network namespace, those with a path do not.

See namespaces(7), user_namespaces(7), network_namespaces(7), rtnetlink(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bundler.errors import OfflineError

Requested = Literal["auto", "netns", "none"]
Kind = Literal["netns", "none"]
REQUESTED: tuple[Requested, ...] = get_args(Requested)

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_RTM_NEWLINK = 16
_RTM_NEWADDR = 20
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x400
_NLMSG_ERROR = 2
_IFA_LOCAL = 2
_IFF_UP = 0x1
_SIOCGIFCONF = 0x8912
_LOOPBACK_INDEX = 1

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """A way of isolating a child that works on this machine.

    Attributes:
        kind: What will be in force.
        detail: One phrase for a person: what the kernel does, or why it does nothing.
        own_addresses: Addresses of this machine that stay in reach, inside the namespace.
    """

    kind: Kind
    detail: str
    own_addresses: tuple[Address, ...] = ()

    def enter(self) -> None:
        """Isolate the calling process; to be called between fork and exec, with a single thread.

        Raises:
            OSError: The kernel refused; `filename` of the error names the step.
        """
        if self.kind == "netns":
            _enter_network_namespace(self.own_addresses)


def choose(requested: Requested = "auto") -> Isolation:
    """Return the isolation that `requested` means on this machine.

    Raises:
        OfflineError: `requested` names a kind that does not work here.
    """
    if requested == "none":
        return Isolation(kind="none", detail="none was asked for; only Python processes are guarded")
    addresses = own_addresses()
    problem = _problem_with(lambda: _enter_network_namespace(addresses))
    if problem is None:
        return Isolation(
            kind="netns",
            detail="network namespace: the kernel gives the whole process tree loopback only",
            own_addresses=addresses,
        )
    if requested == "auto":
        return Isolation(
            kind="none", detail=f"no network namespace here ({problem}); only Python processes are guarded"
        )
    raise OfflineError(
        f"--isolate {requested}: this machine refuses a network namespace: {problem}",
        hint="an administrator can allow unprivileged user namespaces (sysctl user.max_user_namespaces, and on "
        "Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); in a container its seccomp profile must allow "
        "unshare; `--isolate auto` takes what there is",
    )


def own_addresses() -> tuple[Address, ...]:
    """Return the addresses of this machine's interfaces, without loopback, link-local and multicast ones."""
    found: set[Address] = set()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            found |= set(_ipv4_addresses())
        with contextlib.suppress(OSError):
            for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines():
                found.add(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))
    usable = [a for a in found if not (a.is_loopback or a.is_link_local or a.is_multicast or a.is_unspecified)]
    return tuple(sorted(usable, key=lambda a: (a.version, a.packed)))


def _ipv4_addresses() -> Iterator[ipaddress.IPv4Address]:
    # struct ifconf, then an array of struct ifreq (40 bytes on 64-bit Linux): netdevice(7).
    buffer = ctypes.create_string_buffer(40 * 256)
    request = bytearray(struct.pack("iP", len(buffer), ctypes.addressof(buffer)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock.fileno(), _SIOCGIFCONF, request)
    (length,) = struct.unpack_from("i", request)
    for offset in range(0, length, 40):
        # ifr_name[16], then sockaddr_in: family, port, address.
        yield ipaddress.IPv4Address(buffer.raw[offset + 20 : offset + 24])


def _problem_with(enter: Callable[[], None]) -> str | None:
    """Try `enter` in a forked child and return why it failed, or None."""
    if sys.platform != "linux":
        return f"{sys.platform} has none"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            enter()
            os.write(writer, b"+")
        except OSError as error:
            os.write(writer, f"{error.filename}: {error.strerror}".encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            # No clean-up of a forked copy may run: buffers would be written twice.
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        message = stream.read()
    os.waitpid(child, 0)
    return None if message == b"+" else message.decode(errors="replace") or "the probe died"


def _enter_network_namespace(addresses: Iterable[Address]) -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWNET)
    except PermissionError:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        # A process without privileges may map its own ids only, and its gid only after giving up setgroups(2).
        _write_proc("/proc/self/setgroups", "deny")
        _write_proc("/proc/self/uid_map", f"{uid} {uid} 1")
        _write_proc("/proc/self/gid_map", f"{gid} {gid} 1")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as netlink:
        _loopback_up(netlink)
        for address in addresses:
            # Convenience only: a kernel without IPv6 must not cost the isolation.
            with contextlib.suppress(OSError):
                _add_to_loopback(netlink, address)


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")


def _write_proc(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from error
    finally:
        os.close(descriptor)


def _loopback_up(netlink: socket.socket) -> None:
    # struct ifinfomsg: family, pad, type, index, flags, mask of the flags to change.
    message = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _LOOPBACK_INDEX, _IFF_UP, _IFF_UP)
    _ask(netlink, _RTM_NEWLINK, _NLM_F_REQUEST | _NLM_F_ACK, message, "loopback up")


def _add_to_loopback(netlink: socket.socket, address: Address) -> None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # struct ifaddrmsg: family, prefix length, flags, scope, index; then one attribute. The full prefix, since on
    # loopback a shorter one would make every address of the network local.
    message = struct.pack("=BBBBi", family, address.max_prefixlen, 0, 0, _LOOPBACK_INDEX)
    message += struct.pack("=HH", 4 + len(address.packed), _IFA_LOCAL) + address.packed
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_REPLACE
    _ask(netlink, _RTM_NEWADDR, flags, message, f"address {address} on loopback")


def _ask(netlink: socket.socket, kind: int, flags: int, message: bytes, step: str) -> None:
    # struct nlmsghdr: length, type, flags, sequence number, port; the kernel is port 0.
    netlink.send(struct.pack("=IHHII", 16 + len(message), kind, flags, 1, 0) + message)
    answer = netlink.recv(4096)
    answer_kind, number = struct.unpack_from("=4xH10xi", answer)
    if answer_kind != _NLMSG_ERROR or number != 0:
        raise OSError(-number, os.strerror(-number), step)
