"""Judge one call that the seccomp filter has handed over: by its arguments, and what these point to.

Rule book:

* the address is read from the caller's memory; what cannot be read is refused. Of an argument that is an int to the
  kernel the lower half of the register counts, as it does there;
* what `Reach` allows passes; what is refused fails as if there were no route, and has a target to count it under;
* a socket that is tied to a device (also by the scope of the address that it is bound to), or has a source route, sends
  elsewhere than its address says, and joining a
  multicast group sends at once: these pass only where a given network lets them;
* a descriptor of another process may be taken (`pidfd_getfd`) where a launch holds that too, as ranks of a job do who
  share memory, and of no other, whose sockets reach the outside;
* UNIX sockets pass, except those of daemons that look names up for others (`other_programs`): of these a program is
  told that they do not run, so that it asks by DNS itself, where the question can be judged.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from bundler.offline.kernel.networks import Address, Reach
from bundler.offline.kernel.other_programs import find_owner, is_held, is_name_daemon
from bundler.offline.kernel.system_calls import (
    CLONE_NEWNET,
    DEVICE_NAMES,
    DEVICE_NUMBERS,
    FAMILIES,
    INTERNET,
    JOINS_ANY,
    JOINS_IPV4,
    JOINS_IPV6,
    OPTIONS,
    PACKET_INFOS,
    PROTOCOLS_BY_OPTION,
    ROUTES,
    SOCKET_TYPE_MASK,
    SOCKETCALLS,
    Abi,
)

_MAX_MESSAGES = 1024  # UIO_MAXIOV: sendmmsg(2) takes no more at a time
_MAX_ADDRESS_BYTES = 128
# The kernel takes no more (net.core.optmem_max), unless somebody asked for it.
_MAX_CONTROL_BYTES = 1 << 20
_INT = 0xFFFFFFFF
_MAX_KINDS = 10_000
_ENOKEY = 126
# Everywhere: the kernel makes it first.
_LOOPBACK_INDEX = 1
# Ancillary data that lead a datagram elsewhere (ip(7), ipv6(7)): source routes, and where the number of a device is.
_UNIX = struct.pack("=H", FAMILIES["AF_UNIX"])
_CONTROL_ROUTES = {(0, 7), (41, 57), (41, 5)}
_CONTROL_DEVICES = {(0, 8): 0, (41, 50): 16, (41, 2): 16}


@dataclass(frozen=True)
class Refusal:
    """What to answer: an error, and the target to count it under (None: not an attempt at the network)."""

    error: int
    target: str | None = None
    # A namespace of the program's own is let be; what is tried in there is not seen, which is what counts.
    passes: bool = False


class CallJudge(Protocol):
    """What a supervisor asks."""

    def judge(self, call: str, values: list[int], thread: int, abi: Abi) -> Refusal | None:
        """Return what to answer to a call, or None to let it go on."""


class Witness:
    """Lets every call go on, and names the targets outside this machine: for whoever wants to see, not to hold."""

    def judge(self, call: str, values: list[int], thread: int, abi: Abi) -> Refusal | None:
        """See `CallJudge`."""
        if call not in ("connect", "sendto", "sendmsg", "sendmmsg"):
            return None
        for address, _ in _addresses(call, values, thread, abi):
            family = int.from_bytes(address[:2], sys.byteorder)
            target = _internet(family, address) if family in INTERNET else None
            if target is not None and not Reach().allows(target[0], 0):
                host = getattr(target[0], "ipv4_mapped", None) or target[0]
                return Refusal(
                    0, f"[{host}]:{target[1]}" if host.version == 6 else f"{host}:{target[1]}", passes=True
                )
        return None


class Judge:
    """Says of each call whether it may go on."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._known: dict[tuple[str, bytes], Refusal | None] = {}

    def judge(self, call: str, values: list[int], thread: int, abi: Abi) -> Refusal | None:
        """Return why a call must not go on, or None.

        Raises:
            OSError: EFAULT: it points to nothing. Otherwise its memory cannot be read.
        """
        if call == "socket":
            return _judge_socket(*(value & _INT for value in values[:3]))
        if call == "bind":
            return self._judge_bind(_read_address(thread, values[1], values[2]))
        if call == "setsockopt":
            return self._judge_option(values, thread, abi)
        if call == "request_key":
            return Refusal(_ENOKEY, "a key of the kernel's, which may have a program ask outside")
        if call == "setns":
            # Without a kind, of whichever the descriptor is.
            other = values[1] & _INT == 0 or values[1] & CLONE_NEWNET
            return Refusal(errno.EPERM, "another network namespace") if other else None
        if call == "pidfd_getfd":
            owner = find_owner(thread, values[0])
            if owner is None or is_held(owner, thread, self._reach.networks):
                return None
            return Refusal(
                errno.EPERM, f"a descriptor of process {owner}, which is in no launch that reaches as far"
            )
        if call in ("unshare", "clone"):
            return Refusal(
                0, "unknown: a network namespace of the program's own, where nobody counts", passes=True
            )
        return self._judge_addresses(call, values, thread, abi)

    def _judge_addresses(self, call: str, values: list[int], thread: int, abi: Abi) -> Refusal | None:
        for address, control in _addresses(call, values, thread, abi):
            key = (call if call == "connect" else "send", address)
            if address[:2] == _UNIX:
                # What a path leads to may change, and differs by the folder that a program is in.
                refusal = _judge_path(address, thread)
            elif key in self._known:
                refusal = self._known[key]
            else:
                if len(self._known) > _MAX_KINDS:
                    self._known.clear()
                refusal = self._known[key] = self._judge_address(address, connects=call == "connect")
            if refusal is None and control and not self._reach.networks and _leads_elsewhere(control, abi):
                refusal = Refusal(errno.ENETUNREACH, "a source route, or a device to go by")
            if refusal is not None:
                return refusal
        return None

    def _judge_address(self, address: bytes, *, connects: bool) -> Refusal | None:
        if len(address) < 2:
            return None  # the kernel refuses it, or the socket is connected
        (family,) = struct.unpack_from("=H", address)
        if family == FAMILIES["AF_UNSPEC"] and connects:
            return None  # dissolves a connection
        if family in (FAMILIES["AF_NETLINK"], FAMILIES["AF_ALG"]):
            return None
        target = _internet(family, address)
        if target is None:
            return Refusal(errno.ENETUNREACH, f"an address of {_family_name(family)}")
        host, port = target
        if self._reach.allows(host, port):
            return None
        host = getattr(host, "ipv4_mapped", None) or host
        return Refusal(errno.ENETUNREACH, f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}")

    def _judge_option(self, values: list[int], thread: int, abi: Abi) -> Refusal | None:
        _, level, number, pointer, length = values[:5]
        option = (level & _INT, number & _INT)
        length &= _INT
        if option not in OPTIONS or not 0 < length < 1 << 31:
            return None
        value = _read(thread, pointer, min(length, _MAX_ADDRESS_BYTES + 8))
        if option in DEVICE_NAMES:
            name = value.partition(b"\0")[0]
            return None if name in (b"", b"lo") or self._reach.networks else _tied(name.decode(errors="replace"))
        if option in DEVICE_NUMBERS:
            # IP_UNICAST_IF has it in the network's order.
            index = int.from_bytes(value[:4], "little" if option[0] == 1 else "big")
            return None if index in (0, _LOOPBACK_INDEX) or self._reach.networks else _tied(f"number {index}")
        if option in PACKET_INFOS:
            index = int.from_bytes(value[16:20], sys.byteorder)
            return None if index in (0, _LOOPBACK_INDEX) or self._reach.networks else _tied(f"number {index}")
        if option in ROUTES:
            return Refusal(errno.EPERM, f"a route of the program's own ({OPTIONS[option]})")
        group = _group(option, value, abi)
        if group is None or any(group in network for network in self._reach.networks):
            return None
        return Refusal(errno.ENODEV, f"multicast group {group}")

    def _judge_bind(self, address: bytes) -> Refusal | None:
        if int.from_bytes(address[:2], sys.byteorder) != FAMILIES["AF_INET6"] or self._reach.networks:
            return None
        # struct sockaddr_in6: the scope of a link-local address is the device that the socket is tied to from then on.
        index = int.from_bytes(address[24:28], sys.byteorder)
        return None if index in (0, _LOOPBACK_INDEX) else _tied(f"number {index}")


def read_call(abi: Abi, number: int, arguments: list[int], thread: int) -> tuple[str, list[int]]:
    """Return the call's name and arguments, seen through socketcall(2).

    Raises:
        OSError: EFAULT: it points to nothing. Otherwise its memory cannot be read.
    """
    call = abi.calls[number]
    if call != "socketcall":
        return call, arguments
    packed = _read(thread, arguments[1], 6 * abi.word, at_least=3 * abi.word)
    return SOCKETCALLS[arguments[0]], [*abi.unpack_words(packed), 0, 0, 0]


def _judge_socket(family: int, kind: int, protocol: int) -> Refusal | None:
    if family not in FAMILIES.values():
        return Refusal(errno.EAFNOSUPPORT, f"a socket of {_family_name(family)}")
    if family not in INTERNET:
        return None
    name = PROTOCOLS_BY_OPTION.get(protocol)
    kind &= SOCKET_TYPE_MASK
    if name is None and kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        return None
    if kind == socket.SOCK_RAW:
        return Refusal(errno.EPERM, "a raw socket")
    return Refusal(errno.EPROTONOSUPPORT, f"a socket of {name or f'type {kind}'}")


def _judge_path(address: bytes, thread: int) -> Refusal | None:
    path = address[2:].partition(b"\0")[0].decode(errors="surrogateescape")
    return Refusal(errno.ENOENT) if path and is_name_daemon(path, thread) else None


def _tied(device: str) -> Refusal:
    return Refusal(errno.EPERM, f"a socket tied to the device {device}")


def _group(option: tuple[int, int], value: bytes, abi: Abi) -> Address | None:
    """Return the group that an option joins; None if the kernel will refuse it."""
    if option in JOINS_IPV4:
        return ipaddress.IPv4Address(value[:4]) if len(value) >= 4 else None
    if option in JOINS_IPV6:
        return ipaddress.IPv6Address(value[:16]) if len(value) >= 16 else None
    # struct group_req: the number of a device, then a sockaddr, on the boundary of a word.
    address = value[abi.word :]
    found = _internet(int.from_bytes(address[:2], "little"), address) if option in JOINS_ANY else None
    return found[0] if found else None


def _addresses(call: str, values: list[int], thread: int, abi: Abi) -> Iterator[tuple[bytes, bytes]]:
    """Read the addresses that a call wants to reach, with ancillary data; of a connected socket there is none."""
    if call == "connect":
        yield _read_address(thread, values[1], values[2]), b""
    elif call == "sendto":
        yield _read_address(thread, values[4], values[5]), b""
    else:
        # struct msghdr: address and its length, vector and its length, control and its length; mmsghdr begins with it.
        head = struct.Struct("=QI4xQQQQ" if abi.word == 8 else "=6I")
        step = 64 if abi.word == 8 else 32
        messages = min(values[2] & _INT, _MAX_MESSAGES) if call == "sendmmsg" else 1
        for index in range(messages):
            message = head.unpack(_read(thread, values[1] + index * step, head.size))
            pointer, length, _, _, control, control_length = message
            yield _read_address(thread, pointer, length), _read_control(thread, control, control_length)


def _read_address(thread: int, pointer: int, length: int) -> bytes:
    # socklen_t is an int: what stands above it in the register means nothing, and the kernel refuses negative ones.
    # Of a longer address sendmsg takes the beginning, so it is that which counts.
    length &= _INT
    return _read(thread, pointer, min(length, _MAX_ADDRESS_BYTES)) if pointer and 0 < length < 1 << 31 else b""


def _read_control(thread: int, pointer: int, length: int) -> bytes:
    return _read(thread, pointer, min(length, _MAX_CONTROL_BYTES)) if pointer and length else b""


def _leads_elsewhere(control: bytes, abi: Abi) -> bool:
    """Tell whether ancillary data have a source route, or a device other than loopback to go by, or may have one."""
    if len(control) >= _MAX_CONTROL_BYTES:
        return True
    # struct cmsghdr: length with the head, level, type; the next one on the boundary of a word.
    head = struct.Struct("=Qii" if abi.word == 8 else "=Iii")
    place = 0
    while place + head.size <= len(control):
        length, level, kind = head.unpack_from(control, place)
        if (level, kind) in _CONTROL_ROUTES:
            return True
        offset = _CONTROL_DEVICES.get((level, kind))
        if offset is not None:
            index = control[place + head.size + offset :][:4]
            if int.from_bytes(index, "little") not in (0, _LOOPBACK_INDEX):
                return True
        if length < head.size:
            break  # the kernel refuses it
        place += -(-length // abi.word) * abi.word
    return False


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_read_memory = ctypes.CDLL(None, use_errno=True).process_vm_readv
_read_memory.restype = ctypes.c_ssize_t


def _read(thread: int, pointer: int, length: int, *, at_least: int | None = None) -> bytes:
    """Copy bytes out of the caller's memory.

    Raises:
        OSError: EFAULT: there is nothing. EPERM: this process may not look.
    """
    if thread == 0:
        raise OSError(errno.ESRCH, "the caller is in a process namespace that cannot be seen from here")
    buffer = ctypes.create_string_buffer(length)
    here, there = _Piece(ctypes.addressof(buffer), length), _Piece(pointer, length)
    got = _read_memory(thread, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    if got < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if got < (length if at_least is None else at_least):
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    return buffer.raw[:got]


def _internet(family: int, address: bytes) -> tuple[Address, int] | None:
    """Return host and port of a sockaddr, or None if it is none of the internet's."""
    if family == FAMILIES["AF_INET6"] and len(address) >= 24:
        return ipaddress.IPv6Address(address[8:24]), int.from_bytes(address[2:4], "big")
    # Sent to without a family, a datagram socket takes the address for one of IPv4.
    if family in (FAMILIES["AF_INET"], FAMILIES["AF_UNSPEC"]) and len(address) >= 8:
        return ipaddress.IPv4Address(address[4:8]), int.from_bytes(address[2:4], "big")
    return None


def _family_name(family: int) -> str:
    with suppress(ValueError):
        return socket.AddressFamily(family).name
    return f"family {family}"
