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
from bundler.offline.kernel.network_namespace import enter_network_namespace, has_loopback_only, own_addresses
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
from bundler.offline.kernel.supervisor import is_supervised
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


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """A way of isolating a child that works on this machine.

    Attributes:
        kind: What will be in force.
        detail: One phrase for a person: what the kernel does, and why it does no more.
        reach: What stays in reach; of it landlock and none hold nothing below Python.
        names: Whether this machine's own name, and loopback's, are answered from a hosts file of the launch.
        inherited: Whether an outer launch holds this one already, so that nothing is left to do.
    """

    kind: Kind
    detail: str
    reach: Reach = field(default_factory=Reach)
    names: bool = False
    inherited: bool = False

    @property
    def own_addresses(self) -> tuple[Address, ...]:
        """Addresses of this machine that stay in reach."""
        return self.reach.own


def choose(requested: Requested = "auto", allow_net: Sequence[str] = ()) -> Isolation:
    """Return the isolation that `requested` means on this machine.

    Args:
        requested: A kind, or the strongest that works.
        allow_net: Networks besides loopback that must stay in reach, as CIDR.

    Raises:
        OfflineError: `requested` names a kind that does not work here, or not with these networks; or one of them
            is no network.
    """
    reach = Reach(networks=parse_networks(allow_net), own=own_addresses())
    if requested == "none":
        return Isolation(kind="none", detail="none was asked for; only Python processes are guarded", reach=reach)
    if requested != "auto":
        found = _TRY[requested](reach)
        if isinstance(found, Isolation):
            return found
        # What a kind cannot do anywhere, no administrator can change.
        if requested == "netns" and not only_loopback(reach.networks):
            raise OfflineError(f"--isolate netns: {found}", hint="`--isolate seccomp` can, and `auto` takes it")
        raise OfflineError(
            f"--isolate {requested}: {found}",
            hint=f"{_REMEDIES[requested]}; `--isolate auto` takes what there is",
        )
    passed_over: list[str] = []
    for kind, attempt in _TRY.items():
        found = attempt(reach)
        if isinstance(found, Isolation):
            reasons = f" ({'; '.join(passed_over)})" if passed_over else ""
            return replace(found, detail=found.detail + reasons)
        passed_over.append(f"no {kind}: {found}")
    detail = f"{'; '.join(passed_over)}; only Python processes are guarded"
    return Isolation(kind="none", detail=detail, reach=reach)


def _try_namespace(reach: Reach) -> Isolation | str:
    if not only_loopback(reach.networks):
        return f"a network namespace cannot reach {_list(reach.networks)}"
    problem = ""
    for names in (True, False):
        found = problem_with(partial(enter_network_namespace, reach.own, names=names))
        if found is None:
            detail = "network namespace: the kernel gives the whole process tree loopback only"
            # Look-ups through a daemon, over its UNIX socket, leave a network namespace.
            detail += "" if names else ", but a name service on this machine may still be asked"
            return Isolation(kind="netns", detail=detail, reach=reach, names=names)
        problem = f"this machine refuses a network namespace: {found}"
    return problem


def _try_filter(reach: Reach) -> Isolation | str:
    problem = seccomp_filter.why_not()
    if problem is not None:
        return problem
    if is_supervised():
        return _held_from_outside(reach)
    for names in (True, False):
        problem = problem_with_supervision(names=names)
        if problem is None:
            detail = f"seccomp filter: the kernel lets the whole process tree connect to {_in_reach(reach)} only"
            return Isolation(kind="seccomp", detail=detail, reach=reach, names=names)
    return f"this machine refuses a supervised filter: {problem}"


def _held_from_outside(reach: Reach) -> Isolation:
    """The kernel takes one supervisor for a process tree: that of the outermost launch judges ours too."""
    outer = [text for text in os.environ.get(ALLOW_NET, "").split(",") if text]
    if not covers(parse_networks(outer), reach.networks):
        raise OfflineError(
            f"--allow-net {_list(reach.networks)}: this is inside another `bundle run`, whose filter lets through "
            f"{', '.join(outer) or 'loopback'} and cannot be widened",
            hint="give the network to the outer `bundle run` as well",
        )
    detail = "seccomp filter of the outer launch, which counts what it refuses"
    return Isolation(kind="seccomp", detail=detail, reach=reach, inherited=True)


def _try_landlock(reach: Reach) -> Isolation | str:
    if os.environ.get(ISOLATION) == "netns" and has_loopback_only():
        # Landlock refuses before the kernel looks for a route, and so before the outer launch could count it.
        detail = "network namespace of the outer launch, which counts what it refuses, as landlock would not"
        return Isolation(kind="netns", detail=detail, reach=reach, inherited=True)
    problem = landlock.why_not() or problem_with(landlock.try_out)
    if problem is not None:
        return problem
    detail = (
        f"landlock: the kernel refuses TCP to ports below {landlock.FIRST_PORT} and all datagrams, whatever the "
        "address; other ports of the outside are left to the guard in Python"
    )
    return Isolation(kind="landlock", detail=detail, reach=reach)


# Strongest first.
_TRY: dict[Kind, Callable[[Reach], Isolation | str]] = {
    "netns": _try_namespace,
    "seccomp": _try_filter,
    "landlock": _try_landlock,
}


def _in_reach(reach: Reach) -> str:
    return " and ".join(["this machine", *([_list(reach.networks)] if reach.networks else [])])


def _list(networks: Sequence[Network]) -> str:
    return ", ".join(str(network) for network in networks)
