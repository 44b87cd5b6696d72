"""What must hold a child of the proof: the network shut, and for the Python of a repo a sandbox too.

Rule book:

* every child gets the strongest sandbox that works here; libraries that read files of unknown makers need one as well;
* where none works, a lock without remote code is proven all the same, and the proof says so;
* remote code is not run then, nor where the kernel does not keep compiled code off the network, unless the caller says
  so explicitly.
"""

from __future__ import annotations

from typing import Literal

from bundler.errors import SandboxError
from bundler.offline.kernel.isolation import Requested, choose
from bundler.offline.sandbox.sandbox import KINDS, Sandbox, choose_sandbox
from bundler.plan.lock import Lock

# `none` is the explicit word for running remote code without.
SandboxChoice = Literal["auto", "namespaces", "landlock", "none"]
_HOLDS_NETWORK = ("netns", "seccomp")


def choose_confinement(lock: Lock, *, isolate: Requested = "auto", sandbox: SandboxChoice = "auto") -> Sandbox:
    """Return the sandbox for a proof of `lock`.

    Args:
        lock: What is to be proven.
        isolate: As `bundle run` takes it.
        sandbox: auto for the strongest that works here; a kind; or none, also for remote code.

    Raises:
        SandboxError: The lock has remote code, and there is no sandbox, or the network cannot be shut below Python; or
            the kind that was asked for does not work here.
        OfflineError: `isolate` cannot be had.
    """
    if sandbox == "none":
        return Sandbox(kind="none", detail="no sandbox, as asked for")
    chosen = choose_sandbox(KINDS if sandbox == "auto" else (sandbox,))
    if sandbox != "auto" and chosen.kind == "none":
        raise SandboxError(chosen.detail)
    owners = ", ".join(dict.fromkeys(repo.repo_id for repo in lock.repos if repo.trust_remote_code))
    if not owners:
        return chosen
    isolation = choose(isolate)
    problem = chosen.detail if chosen.kind == "none" else ""
    if isolate == "auto" and isolation.kind not in _HOLDS_NETWORK:
        problem = f"the kernel does not keep it off the network ({isolation.detail})"
    if problem:
        raise SandboxError(
            f"the proof would run Python of {owners} (trust_remote_code), and nothing holds it here: {problem}",
            hint="fetch where the kernel has user namespaces, or Landlock (Linux 6.2); with --unsandboxed that code "
            "runs all the same, and may read and change what you may",
        )
    return chosen
