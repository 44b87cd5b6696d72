"""Choose a sandbox that works on this machine, and make what a child calls to enter it.

    namespaces  the child has a root, a /proc and processes of its own
    landlock    the child shares these, and may open nothing but its files
    none        the child may do what its user may

Rule book:

* a kind is taken only if it works here, found out by trying it on a child;
* what was passed over is named, with the reason.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from bundler.files.leftovers import make_temporary_folder
from bundler.offline.kernel.probing import problem_with
from bundler.offline.sandbox import files
from bundler.offline.sandbox.descendants import fork_below_keeper
from bundler.offline.sandbox.limits import Limits
from bundler.offline.sandbox.namespaces import enter_namespaces
from bundler.offline.sandbox.visible import Visible, visible_to_python

SandboxKind = Literal["namespaces", "landlock", "none"]
_PROBE_PREFIX = "bundle-probe-"
KINDS: tuple[SandboxKind, ...] = get_args(SandboxKind)


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A sandbox that works on this machine.

    Attributes:
        kind: namespaces, landlock or none.
        detail: One phrase for a person: what it holds, and why it is no stronger one.
    """

    kind: SandboxKind
    detail: str


def choose_sandbox(allowed: Sequence[SandboxKind] = KINDS) -> Sandbox:
    """Return the strongest sandbox of `allowed` that works here; none where no other does.

    Args:
        allowed: The kinds to try.
    """
    reasons: list[str] = []
    if "namespaces" in allowed:
        problem = _problem_with_namespaces()
        if problem is None:
            return Sandbox(kind="namespaces", detail="sandbox: its own files, processes and home")
        reasons.append(f"no namespaces: {problem}")
    if "landlock" in allowed:
        problem = files.why_not() or _problem_with_landlock()
        if problem is None:
            detail = "sandbox of Landlock: its own files and home"
            detail += "" if files.holds_signals() else ", but signals reach other processes"
            return Sandbox(kind="landlock", detail="; ".join([detail, *reasons]))
        reasons.append(f"no landlock: {problem}")
    return Sandbox(kind="none", detail="; ".join(["no sandbox", *reasons]))


def make_entry(
    sandbox: Sandbox, visible: Visible, root: Path, limits: Limits | None = None
) -> Callable[[Path], None]:
    """Return what a forked child calls to enter `sandbox`, as the last step before it executes its program.

    It takes one more folder to be written: that in which the launch notes attempts.

    Args:
        sandbox: What `choose_sandbox` returned.
        visible: The files that are there, inside.
        root: An empty folder of the caller's.
        limits: Those that the kernel keeps hold from then on; the others are a `Watcher`'s.
    """

    def enter(noted: Path) -> None:
        if limits:
            limits.enter()
        whole = replace(visible, write=(*visible.write, noted))
        if sandbox.kind == "namespaces":
            here = Path.cwd()
            if limits and limits.written_bytes is not None:
                enter_namespaces(whole, root, limits.most_tasks, limits.written_bytes)
            else:
                enter_namespaces(whole, root, limits.most_tasks if limits else None)
            # In the new root by its name; a folder that is not shown there is left for the root.
            with contextlib.suppress(OSError):
                os.chdir(here)
        elif sandbox.kind == "landlock":
            files.enter_landlock(whole)
        elif sys.platform == "linux":
            # Even then nothing of it stays.
            fork_below_keeper()

    return enter


def _problem_with_namespaces() -> str | None:
    with make_temporary_folder(_PROBE_PREFIX) as folder:
        visible = visible_to_python((), ())
        return problem_with(lambda: _enter_and_look(lambda: enter_namespaces(visible, folder)))


def _problem_with_landlock() -> str | None:
    visible = visible_to_python((), ())
    return problem_with(lambda: _enter_and_look(lambda: files.enter_landlock(visible)))


def _enter_and_look(enter: Callable[[], None]) -> None:
    enter()
    # A folder on the way may be closed to a process without capabilities.
    for name in (sys.executable, os.__file__):
        os.close(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
