"""Judge the calls that the seccomp filter hands over: the kernel holds the caller until there is an answer.

Rule book:

* what `Judge` allows goes on in the kernel as if nobody had looked. The kernel reads the address a second time then,
  so a program that changes it in between from another thread gets through: this stops accidents, not hostile code;
* what is refused is counted with its target and its program;
* a guard inside Python tells of each refusal by asking for a socket of a family that does not exist: a note in a file
  may be lost, and this count is where no program of the launch reaches;
* a fault in here refuses the call. Without a supervisor the kernel refuses all of them.

One thread is enough: a judgement takes some 15 microseconds where caller and supervisor share a core (from Linux 6.6);
else waking one on another core may take five times as long.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundler.offline.kernel.judge import CallJudge, Refusal, read_call
from bundler.offline.kernel.system_calls import (
    SOCKET_TYPE_MASK,
    TALK_ANSWERS,
    TALK_FAMILY,
    TALK_QUESTION,
    TALK_REFUSED,
    abis,
)

# linux/seccomp.h; the numbers hold the sizes of what is exchanged, which all 64-bit architectures share.
_RECEIVE, _SEND, _IS_VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = 1
# struct seccomp_notif: id, thread, flags, number, architecture, instruction pointer, six arguments.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
# struct seccomp_notif_resp: id, value, negative error, flags.
_RESPONSE = struct.Struct("=QqiI")

_MAX_KINDS = 10_000
_MAX_ARGUMENTS_BYTES = 4096

Kind = Literal["seccomp", "netns"]


@dataclass(frozen=True, kw_only=True)
class Denial:
    """Calls of one program for one target that the kernel refused.

    Attributes:
        call: connect, sendto, sendmsg, sendmmsg, socket, setsockopt, request_key, setns, unshare, clone or pidfd_getfd.
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


class Supervisor:
    """A thread that answers the notifications of one filter until `stop`.

    One that does not hold its launch is there to see: whatever happens in here, the call goes on.

    Attributes:
        listener: The filter's descriptor; this object closes it.
        shares_core: Whether a caller and this thread run on one core in turn.
    """

    def __init__(self, listener: int, judge: CallJudge, kind: Kind, *, holds: bool = True) -> None:
        self.listener = listener
        self._judge = judge
        self._holds = holds
        self._kind = kind
        self._abis = abis()
        self._told: Counter[int] = Counter()
        self._counts: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="bundle-supervisor", daemon=True)
        self.shares_core = _share_core(listener)

    @property
    def told(self) -> dict[int, int]:
        """Refusals inside Python that the guards have told of: checksum of a target -> how many."""
        return dict(self._told)

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
        refusal: Refusal | None
        try:
            abi = self._abis[architecture]
            call, values = read_call(abi, number, arguments, thread)
            # A guard, or a launch inside this one, must not take a supervisor that only looks for one that holds.
            if self._holds and call == "socket" and values[0] == TALK_FAMILY:
                refusal = self._talk(values[1], values[2])
            else:
                refusal = self._judge.judge(call, values, thread, abi)
        except OSError as error:
            # A pointer to nowhere is the caller's bug, and would be the same without us.
            missing = error.errno == errno.EFAULT
            refusal = Refusal(errno.EFAULT) if missing else Refusal(errno.ENETUNREACH, "an unreadable address")
        except Exception as error:
            # Anything but an answer would leave the caller waiting for ever.
            refusal = Refusal(errno.ENETUNREACH, f"an address that could not be judged ({error!r})")
        if not self._holds and refusal is not None and not refusal.passes:
            refusal = None
        with suppress(OSError):  # the caller has died, or a signal took it elsewhere
            if refusal is not None and refusal.target is not None:
                # What was read came from the caller, and not from another process with its number, if it still waits.
                # An answer needs no such question: it goes to the caller or to nobody.
                fcntl.ioctl(self.listener, _IS_VALID, struct.pack("=Q", ident))
                self._count(call, refusal.target, thread)
            if refusal is None or refusal.passes:
                fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(ident, 0, 0, _CONTINUE))
            else:
                fcntl.ioctl(self.listener, _SEND, _RESPONSE.pack(ident, 0, -refusal.error, 0))

    def _talk(self, topic: int, checksum: int) -> Refusal:
        """Take what a process of the launch says by a socket that does not exist."""
        if topic & SOCKET_TYPE_MASK == TALK_REFUSED:
            self._told[checksum if checksum in self._told or len(self._told) < _MAX_KINDS else 0] += 1
        return Refusal(TALK_ANSWERS[self._kind])

    def _count(self, call: str, target: str, thread: int) -> None:
        pid, argv = _who(thread)
        key = (call, target, argv)
        if key not in self._counts and len(self._counts) >= _MAX_KINDS:
            key = (call, "other targets", ())
        entry = self._counts.setdefault(key, [pid, 0])
        entry[1] += 1


def _share_core(listener: int) -> bool:
    """Have the kernel run a caller and its supervisor on one core in turn; tell whether it does, as from Linux 6.6."""
    try:
        # The flags themselves, and not where they stand.
        fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
    except OSError:
        return False
    return True


def supervised_kind() -> Kind | None:
    """Return which kind of launch has a supervisor of ours that judges this process; None if there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.socket(TALK_FAMILY, TALK_QUESTION, 0) != -1:
        return None
    answers: dict[int, Kind] = {TALK_ANSWERS["seccomp"]: "seccomp", TALK_ANSWERS["netns"]: "netns"}
    return answers.get(ctypes.get_errno())


def _who(thread: int) -> tuple[int, tuple[str, ...]]:
    """Return the process of a thread, and its command line; it waits for us, so it has not gone."""
    pid, argv = thread, b""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{thread}/status").read_text(errors="replace").splitlines()
        pid = int(next(line.split()[1] for line in lines if line.startswith("Tgid:")))
    with suppress(OSError), Path(f"/proc/{thread}/cmdline").open("rb") as stream:
        argv = stream.read(_MAX_ARGUMENTS_BYTES)
    return pid, tuple(word.decode(errors="replace") for word in argv.rstrip(b"\0").split(b"\0") if argv)
