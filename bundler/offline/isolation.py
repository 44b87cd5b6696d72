"""Below Python: take the network away from a process and all that it starts, with the kernel's own means.

    netns   a network namespace with nothing in it but loopback. Every socket of every program in it, compiled code
            and static binaries too, finds no route to anywhere else. One node only: no other machine is in reach.
    none    nothing; only the guard inside Python is left.

Rule book:

* no external tool and no root: as an ordinary user the network namespace comes with a user namespace, in which the
  caller's uid and gid map to themselves, so that files keep their owner. A process that may make a network
  namespace anyway gets no user namespace;
* the machine's own addresses are put on the namespace's loopback, since programs talk to their own host by its name
  (torchrun's rendezvous does). Packets to them go round inside the namespace;
* `auto` takes the strongest kind that works here, found out by trying; a kind that was asked for by name and does
  not work is an error, never a weaker kind.

This stops accidents of any program, not a program that fights it: root can enter another namespace. Abstract UNIX
sockets belong to the network namespace, those with a path do not.

See namespaces(7), user_namespaces(7), network_namespaces(7), rtnetlink(7).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from bundler.errors import OfflineError
from bundler.offline.network_namespace import Address, enter_network_namespace, own_addresses

Requested = Literal["auto", "netns", "none"]
Kind = Literal["netns", "none"]
REQUESTED: tuple[Requested, ...] = get_args(Requested)


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """A way of isolating a child that works on this machine.

    Attributes:
        kind: What will be in force.
        detail: One phrase for a person: what the kernel does, or why it does nothing.
        own_addresses: Addresses of this machine that stay in reach, inside the namespace.
        names: Whether name look-ups are answered inside the namespace.
    """

    kind: Kind
    detail: str
    own_addresses: tuple[Address, ...] = ()
    names: bool = False

    def enter(self) -> None:
        """Isolate the calling process; to be called between fork and exec, with a single thread.

        Raises:
            OSError: The kernel refused; `filename` of the error names the step.
        """
        if self.kind == "netns":
            enter_network_namespace(self.own_addresses, names=self.names)


def choose(requested: Requested = "auto") -> Isolation:
    """Return the isolation that `requested` means on this machine.

    Raises:
        OfflineError: `requested` names a kind that does not work here.
    """
    if requested == "none":
        return Isolation(kind="none", detail="none was asked for; only Python processes are guarded")
    addresses = own_addresses()
    problem = None
    for names in (True, False):
        problem = _problem_with(partial(enter_network_namespace, addresses, names=names))
        if problem is None:
            detail = "network namespace: the kernel gives the whole process tree loopback only"
            # Look-ups through a daemon, over its UNIX socket, leave a network namespace.
            detail += "" if names else ", but a name service on this machine may still be asked"
            return Isolation(kind="netns", detail=detail, own_addresses=addresses, names=names)
    if requested == "auto":
        return Isolation(
            kind="none", detail=f"no network namespace here ({problem}); only Python processes are guarded"
        )
    raise OfflineError(
        f"--isolate {requested}: this machine refuses a network namespace: {problem}",
        hint="an administrator can allow unprivileged user namespaces (sysctl user.max_user_namespaces, and on "
        "Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); in a container its seccomp profile must allow "
        "unshare; `--isolate auto` takes what there is",
    )


def _problem_with(enter: Callable[[], None]) -> str | None:
    """Try `enter` in a forked child and return why it failed, or None."""
    if sys.platform != "linux":
        return f"{sys.platform} has none"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            enter()
            os.write(writer, b"+")
        except OSError as error:
            os.write(writer, f"{error.filename}: {error.strerror}".encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            # No clean-up of a forked copy may run: buffers would be written twice.
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        message = stream.read()
    os.waitpid(child, 0)
    return None if message == b"+" else message.decode(errors="replace") or "the probe died"
