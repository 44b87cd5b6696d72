"""The stage `prove` of a fetch: prepare datasets, load every entry, and run the user's own commands on the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bundler.make.observer import Observer
from bundler.make.proof.command import CommandProof, prove_command
from bundler.make.proof.prepared import prepare
from bundler.make.proof.process.children import LIMITS
from bundler.make.proof.process.confinement import SandboxChoice
from bundler.make.proof.proven import prove_once
from bundler.make.proof.run import Proof
from bundler.make.store import Store
from bundler.plan.lock import Lock


@dataclass(frozen=True, kw_only=True)
class Proven:
    """What was shown of a lock.

    Attributes:
        lock: It, with what that added: prepared datasets, and the commands that ran.
        proof: What was proven to load without a network.
        commands: Those of the user's that ran on all of it.
    """

    lock: Lock
    proof: Proof
    commands: tuple[CommandProof, ...]


def prove_all(
    lock: Lock,
    store: Store,
    *,
    commands: Sequence[str],
    insist: bool,
    sandbox: SandboxChoice,
    minutes: float,
    watcher: Observer,
) -> Proven:
    """Add prepared datasets to a lock whose files are in the store, and prove that all of it loads and runs.

    Args:
        lock: A lock with the digest of every file.
        store: The store.
        commands: For a shell; each is run.
        insist: Whether prepared datasets must be those that the lock has.
        sandbox: As `choose_confinement` takes it.
        minutes: How long the proof of one entry, or of one command, may take.
        watcher: Gets progress.

    Raises:
        ProofError: Something does not load, or a command does not run.
        IntegrityError: `insist`, and a prepared dataset is another.
        DependencyError: A package that the proof needs is not installed.
    """
    watcher.begin("prove", "preparing datasets and proving that everything loads offline")
    bare = replace(lock, proven_by=())
    complete = prepare(bare, store, insist=insist, sandbox=sandbox)
    limits = replace(LIMITS, step_seconds=60 * minutes)
    proof = prove_once(complete, store, sandbox=sandbox, limits=limits)
    ran = []
    for command in commands:
        watcher.begin("prove", f"running without a network: {command}")
        ran.append(prove_command(command, complete, store, sandbox=sandbox, limits=limits))
        if ran[-1].read_files is None:
            watcher.note(f"`{command}`: this system does not tell whether it opened a file of the bundle")
    return Proven(lock=replace(complete, proven_by=tuple(commands)), proof=proof, commands=tuple(ran))
