"""Numbers of the system calls, socket families and socket options by which a process can reach another machine.

Architectures number system calls each in its own way, and a 64-bit kernel runs 32-bit programs by other numbers still.
See syscalls(2), socketcall(2), and `include/uapi/` of the kernel.
"""

from __future__ import annotations

import platform
import socket
import struct
from dataclasses import dataclass, field

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
INTERNET = (FAMILIES["AF_INET"], FAMILIES["AF_INET6"])
# The rest of the argument are flags.
SOCKET_TYPE_MASK = 0xF
# An association of either may be made by options, and goes on to addresses that the other end names.
PROTOCOLS_BY_OPTION = {132: "SCTP", 33: "DCCP"}

# No family of the kernel's: so a process asks its supervisor something, or tells it. The type says what.
TALK_FAMILY = 0xB0DE
TALK_QUESTION, TALK_REFUSED = 1, 2
TALK_ANSWERS = {"seccomp": 76, "netns": 54}  # ENOTUNIQ and EXFULL, which no kernel answers here

# Socket options that make the kernel send, or send elsewhere than the address says: (level, option) -> what it is.
_IP, _IPV6, _SOCKET = 0, 41, 1
JOINS_IPV4 = {(_IP, 35): "IP_ADD_MEMBERSHIP", (_IP, 39): "IP_ADD_SOURCE_MEMBERSHIP"}
JOINS_IPV6 = {(_IPV6, 20): "IPV6_JOIN_GROUP", (_IPV6, 27): "IPV6_JOIN_ANYCAST"}
JOINS_ANY = {
    (level, number): name
    for level in (_IP, _IPV6)
    for number, name in ((42, "MCAST_JOIN_GROUP"), (46, "MCAST_JOIN_SOURCE_GROUP"))
}
ROUTES = {
    (_IP, 4): "IP_OPTIONS",
    (_IPV6, 57): "IPV6_RTHDR",
    (_IPV6, 5): "IPV6_2292RTHDR",
    (_IPV6, 6): "IPV6_2292PKTOPTIONS",
}
DEVICE_NAMES = {(_SOCKET, socket.SO_BINDTODEVICE if hasattr(socket, "SO_BINDTODEVICE") else 25): "SO_BINDTODEVICE"}
DEVICE_NUMBERS = {(_SOCKET, 62): "SO_BINDTOIFINDEX", (_IP, 50): "IP_UNICAST_IF", (_IPV6, 76): "IPV6_UNICAST_IF"}
# For all datagrams of a socket what IPV6_PKTINFO is beside one: an address to send from, then the number of a device.
PACKET_INFOS = {(_IPV6, 50): "IPV6_PKTINFO"}
OPTIONS = JOINS_IPV4 | JOINS_IPV6 | JOINS_ANY | ROUTES | DEVICE_NAMES | DEVICE_NUMBERS | PACKET_INFOS

CLONE_NEWNET = 0x40000000


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

    def unpack_words(self, data: bytes) -> list[int]:
        """Return the words of which `data` consists."""
        return list(struct.unpack(f"={len(data) // self.word}{'Q' if self.word == 8 else 'I'}", data))


# Of one number everywhere: all that are younger than Linux 5.1.
_SINCE_5_1 = {425: "io_uring_setup", 435: "clone3", 438: "pidfd_getfd"}
_I386 = Abi(
    audit_arch=0x40000003,
    word=4,
    calls=_SINCE_5_1
    | {102: "socketcall", 359: "socket", 362: "connect", 369: "sendto", 370: "sendmsg", 345: "sendmmsg"}
    | {361: "bind", 366: "setsockopt", 310: "unshare", 120: "clone", 346: "setns", 287: "request_key"},
)
_X86_64 = Abi(
    audit_arch=0xC000003E,
    word=8,
    calls=_SINCE_5_1
    | {41: "socket", 42: "connect", 44: "sendto", 46: "sendmsg", 307: "sendmmsg"}
    | {49: "bind", 54: "setsockopt", 272: "unshare", 56: "clone", 308: "setns", 249: "request_key"},
)
_ARM = Abi(
    audit_arch=0x40000028,
    word=4,
    calls=_SINCE_5_1
    | {281: "socket", 283: "connect", 290: "sendto", 296: "sendmsg", 374: "sendmmsg"}
    | {282: "bind", 294: "setsockopt", 337: "unshare", 120: "clone", 375: "setns", 310: "request_key"},
)
_AARCH64 = Abi(
    audit_arch=0xC00000B7,
    word=8,
    calls=_SINCE_5_1
    | {198: "socket", 203: "connect", 206: "sendto", 211: "sendmsg", 269: "sendmmsg"}
    | {200: "bind", 208: "setsockopt", 97: "unshare", 220: "clone", 268: "setns", 218: "request_key"},
)
# By `uname -m`: the 64-bit ABI, that of 32-bit programs on the same kernel, the number of seccomp(2).
MACHINES = {"x86_64": (_X86_64, _I386, 317), "aarch64": (_AARCH64, _ARM, 277)}
X86_64 = _X86_64

# What socketcall(2) multiplexes, by its first argument.
SOCKETCALLS = {
    1: "socket",
    2: "bind",
    3: "connect",
    11: "sendto",
    14: "setsockopt",
    16: "sendmsg",
    20: "sendmmsg",
}


def abis() -> dict[int, Abi]:
    """Return the ABIs of this machine by their `audit_arch`."""
    native, compat, _ = MACHINES[platform.machine()]
    return {abi.audit_arch: abi for abi in (native, compat)}
