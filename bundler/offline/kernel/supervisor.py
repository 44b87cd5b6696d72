"""Judge the calls that the seccomp filter hands over: the kernel holds the caller until there is an answer.

Rule book:

* the address is read from the caller's memory; what cannot be read is refused;
* what `Reach` allows goes on in the kernel as if nobody had looked. The kernel reads the address a second time then,
  so a program that changes it in between from another thread gets through: this stops accidents, not hostile code;
* what is refused fails with ENETUNREACH, as if there were no route, and is counted with its target and its program;
* UNIX sockets pass, except those of daemons that look names up for others: of these a program is told that they do
  not run, so that it asks by DNS itself, where the question can be judged;
* a fault in here refuses the call. Without a supervisor the kernel refuses all of them.

One thread is enough: a judgement takes some 30 microseconds, most of it the two switches of process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import ipaddress
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bundler.offline.kernel.networks import Address, Reach
from bundler.offline.kernel.seccomp_filter import FAMILIES, SOCKETCALLS, Abi, abis

# linux/seccomp.h; the numbers hold the sizes of what is exchanged, which all 64-bit architectures share.
_RECEIVE, _SEND, _IS_VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = 1
# struct seccomp_notif: id, thread, flags, number, architecture, instruction pointer, six arguments.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
# struct seccomp_notif_resp: id, value, negative error, flags.
_RESPONSE = struct.Struct("=QqiI")
_MAX_MESSAGES = 1024  # UIO_MAXIOV: sendmmsg(2) takes no more at a time
_MAX_ADDRESS_BYTES = 128

_MAX_KINDS = 10_000
_MAX_ARGUMENTS_BYTES = 4096

_NAME_DAEMONS = ("/nscd/socket", "/io.systemd.Resolve", "/avahi-daemon/socket")

# A question that no kernel would answer so: is a supervisor of ours there? See `is_supervised`.
_QUESTION = struct.pack("=H", 0xB0DE) + b"bundle supervisor?"
_ANSWER = errno.ENOTUNIQ


@dataclass(frozen=True, kw_only=True)
class Denial:
    """Calls of one program for one target that the kernel refused.

    Attributes:
        call: connect, sendto, sendmsg, sendmmsg or socket.
        target: Address and port, or what else was asked for.
        pid: Process that was the first to ask.
        argv: Its command line.
        count: How often it was asked for.
    """

    call: str
    target: str
    pid: int
    argv: tuple[str, ...]
    count: int

    def as_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {**vars(self), "argv": list(self.argv)}


@dataclass(frozen=True)
class _Refusal:
    """What to answer: an error, and the target to count it under (None: not an attempt at the network)."""

    error: int
    target: str | None = None


class Supervisor:
    """A thread that answers the notifications of one filter until `stop`.

    Attributes:
        listener: The filter's descriptor; this object closes it.
    """

    def __init__(self, listener: int, reach: Reach) -> None:
        self.listener = listener
        self._reach = reach
        self._abis = abis()
        self._known: dict[tuple[str, bytes], _Refusal | None] = {}
        self._counts: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
        self._stop, self._stopped = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="bundle-supervisor", daemon=True)
        # From Linux 6.6: caller and supervisor share a core in turn.
        with suppress(OSError):
            fcntl.ioctl(listener, _SET_FLAGS, struct.pack("=Q", _SYNC_WAKE_UP))

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> tuple[Denial, ...]:
        """Answer what is waiting, close the listener, and return what was refused, in the order of first sight."""
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)
        os.close(self.listener)
        return tuple(
            Denial(call=call, target=target, pid=pid, argv=argv, count=count)
            for (call, target, argv), (pid, count) in self._counts.items()
        )

    def _serve(self) -> None:
        # The launcher waits for signals, SIGCHLD among them, which the kernel would give to any thread that takes them.
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        buffer = bytearray(_NOTIFICATION.size)
        empty = bytes(_NOTIFICATION.size)
        while True:
            ready = dict(poll.poll())
            if ready.get(self.listener, 0) & select.POLLIN:
                buffer[:] = empty  # or the kernel takes it for a request of a later version
                try:
                    fcntl.ioctl(self.listener, _RECEIVE, buffer)
                except OSError:
                    continue  # the caller has died meanwhile
                self._answer(_NOTIFICATION.unpack(buffer))
            elif self._stop in ready:
                return
            elif self.listener in ready:
                # Nobody with this filter is left; the end of the command will be known in a moment.
                poll.unregister(self.listener)

    def _answer(self, notification: tuple[int, ...]) -> None:
        ident, thread, _, number, architecture, _, *arguments = notification
        call = "unknown call"
        try:
            abi = self._abis[architecture]
            call, values = _read_call(abi, number, arguments, thread)
            refusal = self._judge(call, values, thread, abi)
        except OSError as error:
            # A pointer to nowhere is the caller's bug, and would be the same without us.
            missing = error.errno == errno.EFAULT
            refusal = _Refusal(errno.EFAULT) if missing else _Refusal(errno.ENETUNREACH, "an unreadable address")
        except Exception as error:
            # Anything but an answer would leave the caller waiting for ever.
            refusal = _Refusal(errno.ENETUNREACH, f"an address that could not be judged ({error!r})")
        with suppress(OSError):  # the caller has died, or a signal took it elsewhere
            # What was read came from the caller, and not from another process with its number, if it still waits.
            fcntl.ioctl(self.listener, _IS_VALID, struct.pack("=Q", ident))
            if refusal is None:
                fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(ident, 0, 0, _CONTINUE))
                return
            if refusal.target is not None:
                self._count(call, refusal.target, thread)
            fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(ident, 0, -refusal.error, 0))

    def _judge(self, call: str, values: list[int], thread: int, abi: Abi) -> _Refusal | None:
        if call == "socket":
            return _Refusal(errno.EAFNOSUPPORT, f"a socket of {_family_name(values[0])}")
        for address in _addresses(call, values, thread, abi):
            key = (call if call == "connect" else "send", address)
            if key not in self._known:
                if len(self._known) > _MAX_KINDS:
                    self._known.clear()
                self._known[key] = self._judge_address(address, connects=call == "connect")
            refusal = self._known[key]
            if refusal is not None:
                return refusal
        return None

    def _judge_address(self, address: bytes, *, connects: bool) -> _Refusal | None:
        if address.startswith(_QUESTION):
            return _Refusal(_ANSWER)
        if len(address) < 2:
            return None  # the kernel refuses it
        (family,) = struct.unpack_from("=H", address)
        if family == FAMILIES["AF_UNIX"]:
            path = address[2:].partition(b"\0")[0].decode(errors="replace")
            return _Refusal(errno.ENOENT) if path.endswith(_NAME_DAEMONS) else None
        if family == FAMILIES["AF_UNSPEC"] and connects:
            return None  # dissolves a connection
        if family in (FAMILIES["AF_NETLINK"], FAMILIES["AF_ALG"]):
            return None
        target = _internet(family, address)
        if target is None:
            return _Refusal(errno.ENETUNREACH, f"an address of {_family_name(family)}")
        host, port = target
        if self._reach.allows(host, port):
            return None
        host = getattr(host, "ipv4_mapped", None) or host
        return _Refusal(errno.ENETUNREACH, f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}")

    def _count(self, call: str, target: str, thread: int) -> None:
        pid, argv = _who(thread)
        key = (call, target, argv)
        if key not in self._counts and len(self._counts) >= _MAX_KINDS:
            key = (call, "other targets", ())
        entry = self._counts.setdefault(key, [pid, 0])
        entry[1] += 1


def is_supervised() -> bool:
    """Tell whether a supervisor of ours judges this process: it answers a question that a kernel answers otherwise."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.connect(-1, _QUESTION, len(_QUESTION)) == -1 and ctypes.get_errno() == _ANSWER


def _read_call(abi: Abi, number: int, arguments: list[int], thread: int) -> tuple[str, list[int]]:
    """Return the call's name and arguments, seen through socketcall(2)."""
    call = abi.calls[number]
    if call != "socketcall":
        return call, arguments
    packed = _read(thread, arguments[1], 6 * abi.word, at_least=3 * abi.word)
    return SOCKETCALLS[arguments[0]], [*struct.unpack(f"={len(packed) // abi.word}I", packed), 0, 0, 0]


def _addresses(call: str, values: list[int], thread: int, abi: Abi) -> Iterator[bytes]:
    """Read the addresses that a call wants to reach; those of a connected socket are none."""
    if call == "connect":
        yield _read_address(thread, values[1], values[2])
    elif call == "sendto":
        yield from _read_optional(thread, values[4], values[5])
    else:
        # struct msghdr begins with the address and its length, whatever follows; struct mmsghdr with a msghdr.
        head = struct.Struct("=QI" if abi.word == 8 else "=II")
        step = 64 if abi.word == 8 else 32
        messages = min(values[2], _MAX_MESSAGES) if call == "sendmmsg" else 1
        for index in range(messages):
            pointer, length = head.unpack(_read(thread, values[1] + index * step, head.size))
            yield from _read_optional(thread, pointer, length)


def _read_optional(thread: int, pointer: int, length: int) -> Iterator[bytes]:
    if pointer:
        yield _read_address(thread, pointer, length)


def _read_address(thread: int, pointer: int, length: int) -> bytes:
    # socklen_t is an int: what stands above it in the register means nothing, and the kernel refuses negative ones.
    # Of a longer address sendmsg takes the beginning, so it is that which counts.
    length &= 0xFFFFFFFF
    return _read(thread, pointer, min(length, _MAX_ADDRESS_BYTES)) if 0 < length < 1 << 31 else b""


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)


def _read(thread: int, pointer: int, length: int, *, at_least: int | None = None) -> bytes:
    """Copy bytes out of the caller's memory.

    Raises:
        OSError: EFAULT: there is nothing. EPERM: this process may not look.
    """
    if thread == 0:
        raise OSError(errno.ESRCH, "the caller is in a process namespace that cannot be seen from here")
    buffer = ctypes.create_string_buffer(length)
    here, there = _Piece(ctypes.addressof(buffer), length), _Piece(pointer, length)
    read = _libc.process_vm_readv
    read.restype = ctypes.c_ssize_t
    got = read(thread, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
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
    family &= 0xFFFFFFFF
    with suppress(ValueError):
        return socket.AddressFamily(family).name
    return f"family {family}"


def _who(thread: int) -> tuple[int, tuple[str, ...]]:
    """Return the process of a thread, and its command line; it waits for us, so it has not gone."""
    pid, argv = thread, b""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{thread}/status").read_text(errors="replace").splitlines()
        pid = int(next(line.split()[1] for line in lines if line.startswith("Tgid:")))
    with suppress(OSError), Path(f"/proc/{thread}/cmdline").open("rb") as stream:
        argv = stream.read(_MAX_ARGUMENTS_BYTES)
    return pid, tuple(word.decode(errors="replace") for word in argv.rstrip(b"\0").split(b"\0") if argv)
