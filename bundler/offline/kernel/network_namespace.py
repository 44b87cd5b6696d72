"""Make a network namespace with nothing in it but loopback, by system calls alone.

In order: the namespaces, as an ordinary user with a user namespace around them in which the caller's uid and gid map
to themselves; loopback up; this machine's own addresses on it; names that can be told without a network
(`make_resolver_files`).

See unshare(2), user_namespaces(7), rtnetlink(7), netdevice(7).
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
from collections.abc import Iterable, Iterator
from pathlib import Path

from bundler.offline.kernel.networks import Address, Network
from bundler.offline.kernel.resolver import mount_resolver_files

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_CAP_SYS_ADMIN = 21

_RTM_NEWLINK = 16
_RTM_NEWADDR = 20
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x400
_NLMSG_ERROR = 2
_IFA_LOCAL = 2
_IFF_UP = 0x1
_SIOCGIFCONF = 0x8912
_SIOCGIFFLAGS = 0x8913
_LOOPBACK_INDEX = 1


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
    # Any socket of the family will do; under Landlock we would get no datagram socket.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        fcntl.ioctl(sock.fileno(), _SIOCGIFCONF, request)
    (length,) = struct.unpack_from("i", request)
    for offset in range(0, length, 40):
        # ifr_name[16], then sockaddr_in: family, port, address.
        yield ipaddress.IPv4Address(buffer.raw[offset + 20 : offset + 24])


def has_loopback_only() -> bool:
    """Tell whether this process sees no other network device."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/net/dev").read_text(encoding="ascii", errors="replace").splitlines()
        return {name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon} == {"lo"}
    return False


def enter_network_namespace(addresses: Iterable[Address], *, names: bool) -> None:
    """Move the calling process, which must have a single thread, into a network namespace of its own.

    Args:
        addresses: Addresses of this machine to keep in reach, inside.
        names: Whether to answer name look-ups inside, which takes a mount namespace too.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    addresses = tuple(addresses)
    _unshare_as_anybody(_CLONE_NEWNET | (_CLONE_NEWNS if names else 0))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as netlink:
        _loopback_up(netlink)
        for address in addresses:
            # Convenience only: a kernel without IPv6 must not cost the isolation.
            with contextlib.suppress(OSError):
                _add_to_loopback(netlink, address)
    if names:
        mount_resolver_files(addresses)


def enter_mount_namespace(addresses: Iterable[Address], peers: Iterable[Network]) -> None:
    """Move the calling process, as above, into a mount namespace without name daemons.

    Its /etc/hosts names this machine and its peers.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    _unshare_as_anybody(_CLONE_NEWNS)
    mount_resolver_files(addresses, only_hosts=True, peers=peers)


def lost_groups() -> list[int]:
    """Return the groups of this process that own nothing in a user namespace of its own: all but its first one.

    Who may do without a user namespace loses none.
    """
    if _may_unshare():
        return []
    return sorted(set(os.getgroups()) - {os.getegid()})


def _may_unshare() -> bool:
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
        return bool(effective >> _CAP_SYS_ADMIN & 1)
    return False


def _unshare_as_anybody(flags: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        _unshare(flags)
    except PermissionError:
        _unshare(flags | _CLONE_NEWUSER)
        # A process without privileges may map its own ids only, and its gid only after giving up setgroups(2).
        _write_proc("/proc/self/setgroups", "deny")
        _write_proc("/proc/self/uid_map", f"{uid} {uid} 1")
        _write_proc("/proc/self/gid_map", f"{gid} {gid} 1")


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
    try:
        _ask(netlink, _RTM_NEWLINK, _NLM_F_REQUEST | _NLM_F_ACK, message, "loopback up")
    except OSError:
        # gVisor takes no such request, and its loopback is up from the start.
        if not _is_loopback_up():
            raise


def _is_loopback_up() -> bool:
    # struct ifreq: ifr_name[16], ifr_flags; netdevice(7).
    request = struct.pack("16sh22x", b"lo", 0)
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        (flags,) = struct.unpack_from("h", fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, request), 16)
        return bool(flags & _IFF_UP)
    return False


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
