"""What each kind of isolation does in the child, between fork and exec, and in the parent, as long as the child runs.

Used as `with enforcement(isolation) as held`: `held.enter` and `held.attach` while a child starts, `held.finish` once
it has ended.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from bundler.offline.kernel import landlock
from bundler.offline.kernel.isolation import Isolation
from bundler.offline.kernel.namespace_counts import KernelCounts
from bundler.offline.kernel.network_namespace import enter_network_namespace
from bundler.offline.kernel.seccomp import SupervisedFilter
from bundler.offline.kernel.supervisor import Denial


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What the kernel refused.

    Attributes:
        count: How many connects and sends; None if nobody counts in this launch.
        denials: The same by target and program, where these are known.
    """

    count: int | None = None
    denials: tuple[Denial, ...] = ()


class Enforcement(Protocol):
    """One isolation of one child."""

    def enter(self) -> None:
        """Isolate the calling process: the child, with a single thread, while the parent calls `attach`.

        Raises:
            OSError: The kernel refused; `filename` of the error names the step.
        """

    def attach(self, child: int) -> None:
        """Take the parent's part.

        Raises:
            OSError: The kernel refused; `filename` of the error names the step.
        """

    def finish(self) -> Refused:
        """Return what was refused, once the command has ended."""


def enforcement(isolation: Isolation) -> AbstractContextManager[Enforcement]:
    """Return what `isolation`, which `choose` found to work, does."""
    if isolation.inherited or isolation.kind == "none":
        return nullcontext(_Nothing())
    if isolation.kind == "landlock":
        return nullcontext(_Landlock())
    return _Namespace(isolation) if isolation.kind == "netns" else _Filter(isolation)


class _Nothing:
    def enter(self) -> None:
        pass

    def attach(self, child: int) -> None:
        pass

    def finish(self) -> Refused:
        return Refused()


class _Landlock(_Nothing):
    def enter(self) -> None:
        landlock.enter()


class _Namespace(KernelCounts):
    def __init__(self, isolation: Isolation) -> None:
        super().__init__()
        self._isolation = isolation

    def enter(self) -> None:
        enter_network_namespace(self._isolation.own_addresses, names=self._isolation.names)
        self.send_from_child()

    def attach(self, child: int) -> None:
        self.receive()

    def finish(self) -> Refused:
        return Refused(count=self.count_refused())


class _Filter(SupervisedFilter):
    def __init__(self, isolation: Isolation) -> None:
        super().__init__(isolation.reach, names=isolation.names)

    def finish(self) -> Refused:
        denials = self.stop()
        return Refused(count=sum(denial.count for denial in denials), denials=denials)
