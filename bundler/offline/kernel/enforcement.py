"""What each kind of isolation does in the child, between fork and exec, and in the parent, as long as the child runs.

Used as `with enforcement(isolation) as held`: `held.enter` and `held.attach` while a child starts, `held.finish` once
it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from bundler.offline.kernel import landlock, seccomp_filter
from bundler.offline.kernel.filter_programs import namespace_filter
from bundler.offline.kernel.isolation import Isolation
from bundler.offline.kernel.namespace_counts import KernelCounts
from bundler.offline.kernel.network_namespace import enter_mount_namespace, enter_network_namespace
from bundler.offline.kernel.seccomp import SupervisedFilter
from bundler.offline.kernel.supervisor import Denial, supervised_kind


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What the kernel refused.

    Attributes:
        count: How many connects and sends; None if nobody counts in this launch.
        denials: The same by target and program, where these are known.
        told: Refusals inside Python that the guards told the supervisor of, where no program can undo it: checksum of
            a target -> how many. None without a supervisor.
    """

    count: int | None = None
    denials: tuple[Denial, ...] = ()
    told: Mapping[int, int] | None = None


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
        return nullcontext(_Landlock(isolation))
    return _Namespace(isolation) if isolation.kind == "netns" else _Filter(isolation)


def prepare(isolation: Isolation) -> None:
    """Do what can be done before there is a child, and takes time.

    Raises:
        OSError: The kernel refused; `filename` of the error names the step.
    """
    if isolation.kind == "landlock" and not isolation.inherited:
        landlock.prepare()


class _Nothing:
    def enter(self) -> None:
        pass

    def attach(self, child: int) -> None:
        pass

    def finish(self) -> Refused:
        return Refused()


class _Landlock(_Nothing):
    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation

    def enter(self) -> None:
        if self._isolation.names:
            enter_mount_namespace(self._isolation.own_addresses, self._isolation.reach.networks)
        landlock.enter()


class _Namespace(KernelCounts):
    """Besides the namespace, a filter for what that does not hold or count, where there can be one."""

    def __init__(self, isolation: Isolation) -> None:
        super().__init__()
        self._isolation = isolation
        self._filter = SupervisedFilter(isolation.reach, "netns") if isolation.supervised else None

    def enter(self) -> None:
        enter_network_namespace(self._isolation.own_addresses, names=self._isolation.names)
        self.send_from_child()
        if self._filter:
            self._filter.enter()
        elif seccomp_filter.why_not() is None and supervised_kind() is None:
            seccomp_filter.install(namespace_filter(notify=False))

    def attach(self, child: int) -> None:
        self.receive()
        if self._filter:
            self._filter.attach(child)

    def finish(self) -> Refused:
        if self._filter is None:
            return Refused(count=self.count_refused() if self._isolation.counts else None)
        denials = self._filter.stop()
        count = self.count_refused() + sum(denial.count for denial in denials)
        return Refused(count=count, denials=denials, told=self._filter.told)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._filter:
            self._filter.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)


class _Filter(SupervisedFilter):
    def __init__(self, isolation: Isolation) -> None:
        super().__init__(isolation.reach, "seccomp")
        self._names = isolation.names

    def enter(self) -> None:
        if self._names:
            # Torch asks for the name of every peer, and a question to a name server out of reach is an attempt.
            enter_mount_namespace(self._reach.own, self._reach.networks)
        super().enter()

    def finish(self) -> Refused:
        denials = self.stop()
        return Refused(count=sum(denial.count for denial in denials), denials=denials, told=self.told)
