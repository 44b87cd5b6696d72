"""See the connections of every program of a recording, compiled ones too, by the kernel's filter: nothing is refused.

Where there can be no such filter (another system, an outer supervisor), Python's connections alone are seen.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from bundler.errors import OfflineError
from bundler.offline.kernel import seccomp_filter
from bundler.offline.kernel.networks import Reach
from bundler.offline.kernel.probing import problem_with
from bundler.offline.kernel.seccomp import SupervisedFilter

_DNS = 53
_SHOWN_CHARACTERS = 160


@dataclass(frozen=True, order=True)
class SocketUse:
    """A connection of a program.

    Attributes:
        address: Address of the other machine.
        port: Its port.
        argv: Command line of the program.
    """

    address: str
    port: int
    argv: tuple[str, ...]

    @property
    def program(self) -> str:
        """The command line for people."""
        text = " ".join(" ".join(self.argv).split()) or "an unknown program"
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


class SocketWatch:
    """What `watch_sockets` yields.

    Attributes:
        why_not: Why nothing can be seen, or None.
    """

    def __init__(self, supervised: SupervisedFilter | None, why_not: str | None, mask: set[int]) -> None:
        self._filter = supervised
        self._mask = mask
        self.why_not = why_not

    def enter(self) -> None:
        """Put the filter on the calling process: the child."""
        if self._filter:
            self._filter.enter()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def attach(self, child: int) -> None:
        """Take the parent's part."""
        if self._filter:
            self._filter.attach(child)

    def finish(self) -> tuple[SocketUse, ...]:
        """Return what was seen, once the command has ended; questions to name servers are left out."""
        denials = self._filter.stop() if self._filter else ()
        found: dict[SocketUse, None] = {}
        for denial in denials:
            host, _, port = denial.target.rpartition(":")
            if port.isdigit() and int(port) not in (0, _DNS):
                found[SocketUse(host.strip("[]"), int(port), denial.argv)] = None
        return tuple(found)


@contextlib.contextmanager
def watch_sockets(mask: set[int]) -> Iterator[SocketWatch]:
    """Prepare to see the connections of a child.

    Args:
        mask: The signals that the child must have blocked.
    """
    if reason := _why_not():
        yield SocketWatch(None, f"connections of compiled programs were not seen: {reason}", mask)
        return
    with SupervisedFilter(Reach(), "seccomp", witness=True) as supervised:
        yield SocketWatch(supervised, None, mask)


def _why_not() -> str | None:
    if reason := seccomp_filter.why_not():
        return reason
    try:
        with SupervisedFilter(Reach(), "seccomp", witness=True) as tried:
            return problem_with(tried.enter, meanwhile=tried.attach)
    except OfflineError as error:
        return error.message
