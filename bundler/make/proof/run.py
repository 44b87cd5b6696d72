"""Prove a lock: load every entry, by every name, in a process without a network."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from bundler.errors import DependencyError
from bundler.make.proof.findings import INSTALL_HINT, Finding, entry_path, refuse_failures
from bundler.make.proof.process.children import LIMITS, run_child
from bundler.make.proof.process.confinement import SandboxChoice
from bundler.make.store import Store
from bundler.offline.kernel.isolation import Requested
from bundler.offline.sandbox.limits import Limits
from bundler.plan.lock import Lock


@dataclass(frozen=True, kw_only=True)
class EntryProof:
    """The proof of one entry.

    Attributes:
        entry: Its key path in the manifest, such as ``models[0]``.
        kind: tokenizer, model or dataset.
        repo_id: Canonical id.
        names: Every name that it was loaded by.
        proven: What worked.
        notes: What was not checked, and what is unusual but harmless.
    """

    entry: str
    kind: str
    repo_id: str
    names: tuple[str, ...]
    proven: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The proof of a whole lock.

    Attributes:
        entries: One per entry, in the lock's order.
        isolation: What kept the child off the network: ``netns``, or ``guard`` if the kernel supports none.
        isolation_detail: The same in a phrase for people.
        sandbox: What kept the child to its own files: ``namespaces``, ``landlock`` or ``none``.
        sandbox_detail: The same in one phrase for people.
        network_attempts: How many times code in the child tried to use the network, and was refused.
        refused: Where these attempts came from, if Python code made them.
        seconds: How long the proof took.
        proven_at: When it was made, in UTC, in ISO 8601.
        is_remembered: Whether it was made by an earlier run (see `bundler.make.proof.proven`).
    """

    entries: tuple[EntryProof, ...]
    isolation: str
    isolation_detail: str
    sandbox: str
    sandbox_detail: str
    network_attempts: int
    refused: tuple[str, ...]
    seconds: float
    proven_at: str
    is_remembered: bool = False


def required_packages(lock: Lock) -> list[str]:
    """Return the import names that a proof of `lock` needs."""
    kinds = {repo.kind for repo in lock.repos}
    needed = set()
    if kinds & {"tokenizer", "model"}:
        needed.add("transformers")
    if "model" in kinds:
        # transformers needs accelerate to put a model on the meta device.
        needed |= {"torch", "accelerate"}
    if "dataset" in kinds:
        needed.add("datasets")
    return sorted(needed)


def check_packages(lock: Lock) -> None:
    """Check that the packages that a proof imports are installed, before anything is downloaded.

    Raises:
        DependencyError: A package is missing.
    """
    missing = [name for name in required_packages(lock) if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"to prove that this bundle loads offline, {', '.join(missing)} must be installed here",
            hint=f"{INSTALL_HINT} (only the machine that fetches needs it for this)",
        )


def prove(
    lock: Lock,
    store: Store,
    *,
    isolate: Requested = "auto",
    sandbox: SandboxChoice = "auto",
    limits: Limits = LIMITS,
) -> Proof:
    """Prove that everything in `lock` loads without a network, by every name.

    Args:
        lock: A complete lock, with prepared datasets, whose files are in `store`.
        store: The store with its files.
        isolate: The isolation, as for `bundle run`.
        sandbox: As `choose_confinement` takes it.
        limits: What it may take of this machine.

    Raises:
        ProofError: An entry does not load, or goes over a limit; the error names it, the missing files, and what to
            change.
        DependencyError: A package that an entry needs is not installed.
    """
    check_packages(lock)
    started = time.monotonic()
    with store.work_folder() as work:
        # Another folder than the one of `prepare`: what was prepared there is shown to load here.
        home = work / "elsewhere" / "home"
        result = run_child("prove", lock, store, work, home, isolate=isolate, sandbox=sandbox, limits=limits)
    refuse_failures(lock, result.findings)
    return Proof(
        entries=tuple(_entry(lock, finding) for finding in result.findings),
        isolation="guard" if result.completed.isolation.kind == "none" else result.completed.isolation.kind,
        isolation_detail=result.completed.isolation.detail,
        sandbox=result.sandbox.kind,
        sandbox_detail=result.sandbox.detail,
        network_attempts=result.completed.attempts,
        refused=tuple(f"{attempt.target} at {attempt.where}" for attempt in result.completed.refused),
        seconds=time.monotonic() - started,
        proven_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _entry(lock: Lock, finding: Finding) -> EntryProof:
    repo = lock.repos[finding.index]
    return EntryProof(
        entry=entry_path(lock, finding.index),
        kind=repo.kind,
        repo_id=repo.repo_id,
        names=(repo.repo_id, *repo.aliases),
        proven=tuple(finding.proven),
        notes=tuple(finding.notes),
    )
