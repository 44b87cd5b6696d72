"""Below Python: take the network away from a process and all that it starts, with the kernel's own means.

    netns     a network namespace with nothing in it but loopback. Every socket of every program in it, compiled code
              and static binaries too, finds no route to anywhere else. One node only: no other machine is in reach.
    seccomp   a filter that hands each connect to this launcher, which lets through loopback and the networks that
              were given, and refuses and counts the rest. For jobs of several nodes.
    landlock  TCP to ports below 1024 and datagrams are refused, whatever the address. For want of the other two.
    none      nothing; only the guard inside Python is left.

Rule book:

* no external tool and no root, and no daemon: what holds is inherited by children and gone with the last of them;
* a kind is taken only if it works here, found out by trying it on a child;
* `auto` takes the strongest kind that allows what was asked for: netns if no other machine need be in reach, else
  seccomp, else landlock, else none; what was passed over is named, with the reason;
* what would break a program that needs no network is not the first choice: a namespace of its own for each of several
  launches that are one job, or a user namespace for somebody whose other groups would own nothing in it;
* a kind that was asked for by name and does not work is an error, never a weaker kind.

`enforcement` has what each kind does in the child and in the parent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, get_args

from bundler.errors import OfflineError
from bundler.offline.kernel import landlock, seccomp_filter
from bundler.offline.kernel.namespace_counts import check_that_it_counts
from bundler.offline.kernel.network_namespace import (
    enter_mount_namespace,
    enter_network_namespace,
    has_loopback_only,
    lost_groups,
    own_addresses,
)
from bundler.offline.kernel.networks import (
    Address,
    Network,
    Reach,
    covers,
    only_loopback,
    parse_networks,
)
from bundler.offline.kernel.probing import problem_with
from bundler.offline.kernel.seccomp import problem_with_supervision
from bundler.offline.kernel.supervisor import supervised_kind
from bundler.offline.variables import ALLOW_NET, ISOLATION

Requested = Literal["auto", "netns", "seccomp", "landlock", "none"]
Kind = Literal["netns", "seccomp", "landlock", "none"]
REQUESTED: tuple[Requested, ...] = get_args(Requested)

_REMEDIES: dict[Kind, str] = {
    "netns": "an administrator can allow unprivileged user namespaces (sysctl user.max_user_namespaces, and on "
    "Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); in a container its seccomp profile must allow unshare",
    "seccomp": "it takes Linux 5.6 on x86-64 or aarch64, kernel.yama.ptrace_scope of at most 1, and in a container a "
    "seccomp profile that allows seccomp, pidfd_getfd and process_vm_readv",
    "landlock": "it takes Linux 6.7 with landlock in its list of security modules",
}
_NAMES_ARE_ASKED = "but a name service on this machine may still be asked"
_TARGETS_ARE_UNKNOWN = "it knows no targets of what it refuses, and some are expected"
_GROUPS_ARE_LOST = "in a user namespace files cannot be given to this user's other groups (chgrp, rsync -a)"


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """A way of isolating a child that works on this machine.

    Attributes:
        kind: What will be in force.
        detail: One phrase for a person: what the kernel does, and why it does no more.
        reach: What stays in reach; of it landlock and none hold nothing below Python.
        names: Whether a mount namespace hides daemons that look names up, and has a hosts file of the launch.
        supervised: Whether the launcher is asked, and counts what it refuses.
        counts: Whether the kernel counts what a namespace refuses.
        inherited: Whether an outer launch holds this one already, so that nothing is left to do.
    """

    kind: Kind
    detail: str
    reach: Reach = field(default_factory=Reach)
    names: bool = False
    supervised: bool = False
    counts: bool = True
    inherited: bool = False

    @property
    def own_addresses(self) -> tuple[Address, ...]:
        """Addresses of this machine that stay in reach."""
        return self.reach.own


def choose(
    requested: Requested = "auto",
    allow_net: Sequence[str] = (),
    *,
    tasks_on_node: int = 1,
    names_targets: bool = False,
) -> Isolation:
    """Return the isolation that `requested` means on this machine.

    Args:
        requested: A kind, or the strongest that works and breaks nothing.
        allow_net: Networks besides loopback that must stay in reach, as CIDR.
        tasks_on_node: Launches beside this one, itself among them, that are one job and must find each other.
        names_targets: Whether the targets of what the kernel refuses must be known.

    Raises:
        OfflineError: `requested` names a kind that does not work here, or not with these networks; or one of them
            is no network.
    """
    reach = Reach(networks=parse_networks(allow_net), own=own_addresses())
    if requested == "none":
        return Isolation(kind="none", detail="none was asked for; only Python processes are guarded", reach=reach)
    outer = _outer_kind()
    if outer is not None and not (outer == "seccomp" and requested == "netns"):
        return _held_from_outside(reach, outer)
    if requested != "auto":
        found = _TRY[requested](reach)
        if isinstance(found, Isolation):
            return _with_costs(found, tasks_on_node)
        # What a kind cannot do anywhere, no administrator can change.
        if requested == "netns" and not only_loopback(reach.networks):
            raise OfflineError(f"--isolate netns: {found}", hint="`--isolate seccomp` can, and `auto` takes it")
        raise OfflineError(
            f"--isolate {requested}: {found}",
            hint=f"{_REMEDIES[requested]}; `--isolate auto` takes what there is",
        )
    kinds, passed_over = _order(tasks_on_node, names_targets=names_targets)
    for kind in kinds:
        found = _TRY[kind](reach)
        if isinstance(found, Isolation):
            reasons = f" ({'; '.join(passed_over)})" if passed_over else ""
            return replace(found, detail=found.detail + reasons)
        passed_over.append(f"no {kind}: {found}")
    detail = f"{'; '.join(passed_over)}; only Python processes are guarded"
    return Isolation(kind="none", detail=detail, reach=reach)


def _order(tasks_on_node: int, *, names_targets: bool) -> tuple[list[Kind], list[str]]:
    """Return what `auto` tries, strongest first, but for what breaks a program; and why something is left for later."""
    if tasks_on_node > 1:
        return ["seccomp", "landlock"], [f"no netns: {_parted(tasks_on_node)}"]
    if lost_groups() or names_targets:
        reason = _GROUPS_ARE_LOST if lost_groups() else _TARGETS_ARE_UNKNOWN
        return ["seccomp", "netns", "landlock"], [f"not netns first: {reason}"]
    return ["netns", "seccomp", "landlock"], []


def _with_costs(isolation: Isolation, tasks_on_node: int) -> Isolation:
    """Say of a namespace that was asked for by name what `auto` would have left it for."""
    if isolation.kind != "netns":
        return isolation
    costs = [_parted(tasks_on_node)] if tasks_on_node > 1 else []
    costs += [_GROUPS_ARE_LOST] if lost_groups() else []
    return replace(isolation, detail="; ".join([isolation.detail, *costs]))


def _parted(tasks_on_node: int) -> str:
    return f"the {tasks_on_node} launches of this job step on this node would not find each other on loopback"


def _outer_kind() -> Literal["netns", "seccomp"] | None:
    """Return what an outer launch holds this process with, if that counts what it refuses."""
    kind = supervised_kind()
    if kind is None and os.environ.get(ISOLATION) == "netns" and has_loopback_only():
        return "netns"
    return kind


def _held_from_outside(reach: Reach, kind: Literal["netns", "seccomp"]) -> Isolation:
    """The kernel takes one supervisor for a process tree, so that of the outermost launch judges and counts ours too.

    A filter or a namespace of our own would refuse before that, and so hide from it what was tried.
    """
    outer = [text for text in os.environ.get(ALLOW_NET, "").split(",") if text]
    if not covers(parse_networks(outer), reach.networks):
        raise OfflineError(
            f"--allow-net {_list(reach.networks)}: this is inside another `bundle run`, which lets through "
            f"{', '.join(outer) or 'loopback'} and cannot be widened",
            hint="give the network to the outer `bundle run` as well",
        )
    what = "network namespace" if kind == "netns" else "seccomp filter"
    detail = f"{what} of the outer launch, which counts what it refuses"
    return Isolation(kind=kind, detail=detail, reach=reach, inherited=True)


def _try_namespace(reach: Reach) -> Isolation | str:
    if not only_loopback(reach.networks):
        return f"a network namespace cannot reach {_list(reach.networks)}"
    problem = ""
    for names in (True, False):
        enter = partial(enter_network_namespace, reach.own, names=names)
        filtered = seccomp_filter.why_not() is None and problem_with_supervision("netns", enter) is None
        found = None if filtered else problem_with(enter)
        if found is None:
            detail = "network namespace: the kernel gives the whole process tree loopback only"
            # Look-ups through a daemon, over its UNIX socket, leave a network namespace.
            detail += "" if names else f", {_NAMES_ARE_ASKED}"
            # An outer launch that is asked would count the probe.
            counts = filtered or supervised_kind() is not None
            counts = counts or problem_with(partial(_count_in_namespace, reach, names=names)) is None
            if not counts:
                detail += "; it counts nothing"
            elif not filtered:
                detail += "; it counts no raw sockets, and no namespaces of the program's own"
            return Isolation(
                kind="netns", detail=detail, reach=reach, names=names, supervised=filtered, counts=counts
            )
        problem = f"this machine refuses a network namespace: {found}"
    return problem


def _count_in_namespace(reach: Reach, *, names: bool) -> None:
    enter_network_namespace(reach.own, names=names)
    check_that_it_counts()


def _try_filter(reach: Reach) -> Isolation | str:
    problem = seccomp_filter.why_not()
    if problem is not None:
        return problem
    for names in _names_to_try():
        before = partial(enter_mount_namespace, reach.own, reach.networks) if names else _nothing
        problem = problem_with_supervision("seccomp", before)
        if problem is None:
            detail = f"seccomp filter: the kernel lets the whole process tree connect to {_in_reach(reach)} only"
            return Isolation(kind="seccomp", detail=detail, reach=reach, names=names, supervised=True)
    return f"this machine refuses a supervised filter: {problem}"


def _try_landlock(reach: Reach) -> Isolation | str:
    problem = landlock.why_not() or problem_with(landlock.try_out)
    if problem is not None:
        return problem
    detail = (
        f"landlock: the kernel refuses TCP to ports below {landlock.FIRST_PORT} and all datagrams, whatever the "
        "address; other ports of the outside are left to the guard in Python"
    )
    enter = partial(enter_mount_namespace, reach.own, reach.networks)
    names = True in _names_to_try() and problem_with(enter) is None
    detail += "" if names else f", {_NAMES_ARE_ASKED}"
    return Isolation(kind="landlock", detail=detail, reach=reach, names=names)


def _names_to_try() -> tuple[bool, ...]:
    # A mount namespace takes a user namespace around it, and that costs the groups.
    return (False,) if lost_groups() else (True, False)


def _nothing() -> None:
    pass


_TRY: dict[Kind, Callable[[Reach], Isolation | str]] = {
    "netns": _try_namespace,
    "seccomp": _try_filter,
    "landlock": _try_landlock,
}


def _in_reach(reach: Reach) -> str:
    return " and ".join(["this machine", *([_list(reach.networks)] if reach.networks else [])])


def _list(networks: Sequence[Network]) -> str:
    return ", ".join(str(network) for network in networks)
