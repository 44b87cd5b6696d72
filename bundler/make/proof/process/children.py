"""Start a child process of the proof: isolated, with its own cache and a fixed environment."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import bundler
from bundler.errors import ProofError
from bundler.files.bounded import read_bounded, read_tail
from bundler.make.fetch import blob_path
from bundler.make.proof.findings import Finding, entry_path, parse_findings
from bundler.make.proof.process.confinement import SandboxChoice, choose_confinement
from bundler.make.proof.process.folders import Folders, Mode
from bundler.make.proof.process.held import Hold
from bundler.make.proof.process.home import assemble
from bundler.make.store import Store
from bundler.offline.kernel.isolation import Requested
from bundler.offline.launch.launch import Completed
from bundler.offline.sandbox.limits import Breach, Limits
from bundler.offline.sandbox.sandbox import Sandbox
from bundler.offline.sandbox.visible import visible_to_python
from bundler.plan.layout import layout
from bundler.plan.lock import Lock

# Far more than what is honest takes.
LIMITS = Limits()
MEMORY_HINT = "that means that it was killed, usually because memory ran out"

# Characters from the end of the log: enough to see why a process died.
_LOG_TAIL_BYTES = 2000

# The largest result that is read: thousands of entries, each with its findings.
_MOST_RESULT_BYTES = 16 << 20
_MOST_STEP_BYTES = 20


@dataclass(frozen=True)
class ChildResult:
    """The result of a child process.

    Attributes:
        findings: One for each entry that it checked.
        completed: How the process ran, with its isolation.
        sandbox: What held it besides.
    """

    findings: list[Finding]
    completed: Completed
    sandbox: Sandbox


def run_child(
    mode: Mode,
    lock: Lock,
    store: Store,
    work: Path,
    home: Path,
    *,
    isolate: Requested = "auto",
    sandbox: SandboxChoice = "auto",
    limits: Limits = LIMITS,
) -> ChildResult:
    """Let a child process check every entry of `lock`.

    Args:
        mode: "prove" or "prepare"; see `bundler.make.proof.child`.
        lock: A complete lock.
        store: The store with its files.
        work: An empty folder on the store's file system.
        home: The child's HF_HOME, which will be made below `work`.
        isolate: The isolation, as for `bundle run`.
        sandbox: As `choose_confinement` takes it.
        limits: What the child may take; preparing datasets, which runs no code of repos, may take any time and room.

    Raises:
        ProofError: The child ended without a result, or with something else in its place; or it went over a limit.
        OfflineError: This machine does not support `isolate`.
        SandboxError: This machine does not support `sandbox`.
    """
    chosen = choose_confinement(lock, isolate=isolate, sandbox=sandbox)
    assemble(home, layout(lock), blob_path(store))
    folders = Folders.make(work, home, mode)
    log = work / f"{mode}.log"
    job, result, step = work / "job.json", folders.scratch / "result.json", folders.scratch / "step"
    lock_copy = work / "lock.json"
    lock_copy.write_text(lock.dumps())
    names = {"lock": lock_copy, "home": home, "result": result, "step": step}
    job.write_text(json.dumps({"mode": mode, **{name: str(path) for name, path in names.items()}}))
    if mode == "prove":
        folders.write_receipt(lock)
    if mode == "prepare":
        limits = replace(limits, step_seconds=None, written_bytes=None)
    visible = visible_to_python((Path(bundler.__file__).parent, home, lock_copy, job), folders.writable)
    completed, breach = Hold(isolate=isolate, sandbox=chosen, limits=limits).run(
        # -P: the working folder, which the child may write, is not imported from.
        [sys.executable, "-P", "-m", "bundler.make.proof.child", str(job)],
        folders,
        env=folders.environment(mode),
        visible=visible,
        cwd=folders.scratch,
        log=log,
        read_step=lambda: _read_step(step),
    )
    if breach is not None:
        raise _refuse(lock, breach)
    try:
        found = parse_findings(read_bounded(result, _MOST_RESULT_BYTES), len(lock.repos))
    except (OSError, ValueError) as error:
        raise _dead(mode, completed, log) from error
    return ChildResult(found, completed, chosen)


def _read_step(path: Path) -> int:
    """Return the entry that the child says it is at; its first, where it says nothing that makes sense."""
    with contextlib.suppress(OSError, ValueError):
        return int(read_bounded(path, _MOST_STEP_BYTES))
    return 0


def _refuse(lock: Lock, breach: Breach) -> ProofError:
    index = min(breach.step, len(lock.repos) - 1)
    repo, entry = lock.repos[index], entry_path(lock, index)
    hint = "an entry with trust_remote_code runs Python of its repo: look at that before you fetch it again"
    if breach.is_time:
        hint = f"if it may take so long: --proof-timeout MINUTES; {hint}"
    return ProofError(f"{entry} ({repo.repo_id}): its proof was ended: it {breach.what}", hint=hint)


def _dead(mode: Mode, completed: Completed, log: Path) -> ProofError:
    tail = read_tail(log, _LOG_TAIL_BYTES).decode(errors="replace").strip()
    return ProofError(
        f"the process for the step {mode!r} ended with exit code {completed.exit_code} and without a result"
        + (f"; the end of its output:\n{tail}" if tail else ""),
        hint=MEMORY_HINT if completed.exit_code == 137 else None,
    )
