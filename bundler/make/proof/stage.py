"""The stage `prove` of a fetch: prepare datasets, load every entry, and run the user's own commands on the whole."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bundler.errors import ProofError
from bundler.make.observer import Observer
from bundler.make.proof.command import CommandProof, prove_command
from bundler.make.proof.prepared import prepare
from bundler.make.proof.process.children import LIMITS, MEMORY_HINT
from bundler.make.proof.process.confinement import SandboxChoice
from bundler.make.proof.proven import prove_once
from bundler.make.proof.run import Proof
from bundler.make.store import Store
from bundler.offline.launch.forked import ForkedWork, ForkedWorkError, fork_work
from bundler.plan.lock import Lock

# The proof's child is killed at once, and its folder removed: that takes a moment, a large one a little longer.
_PATIENCE_SECONDS = 20.0


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


class Proving:
    """The proof of a lock, which may go on in a process of its own.

    Args:
        lock: The lock, with what `Proven.lock` has.
        finish: Waits for the proof.
        is_done: Tells whether that would take no time.

    Attributes:
        lock: It.
    """

    def __init__(
        self,
        lock: Lock,
        finish: Callable[[], tuple[Proof, tuple[CommandProof, ...]]],
        is_done: Callable[[], bool] = lambda: True,
    ) -> None:
        self.lock = lock
        self._finish = finish
        self._is_done = is_done
        self._proven: Proven | None = None
        self._failure: Exception | None = None

    def is_done(self) -> bool:
        """Tell whether `finish` would return, or raise, at once."""
        return self._proven is not None or self._failure is not None or self._is_done()

    def finish(self) -> Proven:
        """Wait for it, and return what was shown, again and again; for one thread at a time.

        Raises:
            ProofError: Something does not load, or a command does not run.
            DependencyError: A package that the proof needs is not installed.
        """
        if self._failure is not None:
            raise self._failure
        if self._proven is None:
            try:
                proof, commands = self._finish()
            except Exception as failure:
                self._failure = failure
                raise
            self._proven = Proven(lock=self.lock, proof=proof, commands=commands)
        return self._proven

    def raise_failure(self) -> None:
        """Raise what `finish` would raise, if that is known by now."""
        if self.is_done():
            self.finish()


@contextlib.contextmanager
def begin_proof(
    lock: Lock,
    store: Store,
    *,
    commands: Sequence[str],
    insist: bool,
    sandbox: SandboxChoice,
    minutes: float,
    watcher: Observer,
    beside: bool,
) -> Iterator[Proving]:
    """Add prepared datasets to a lock whose files are in the store, and prove that all of it loads and runs.

    Args:
        lock: A lock with the digest of every file.
        store: The store.
        commands: For a shell; each is run.
        insist: Whether prepared datasets must be those that the lock has.
        sandbox: As `choose_confinement` takes it.
        minutes: How long the proof of one entry, or of one command, may take.
        watcher: Gets progress.
        beside: Whether the block may begin before all entries have loaded. The user's commands are waited for: they may
            want the whole machine, and say what they do.

    Yields:
        The proof. While it runs, this process may have threads: it has a process of its own, which forks, and which
        ends with the block.

    Raises:
        ProofError: Something does not load, or a command does not run, and that is known before the block.
        IntegrityError: `insist`, and a prepared dataset is another.
        DependencyError: A package that the proof needs is not installed.
    """
    watcher.begin("prove", "preparing datasets and proving that everything loads offline")
    bare = replace(lock, proven_by=())
    complete = prepare(bare, store, insist=insist, sandbox=sandbox)
    limits = replace(LIMITS, step_seconds=60 * minutes)
    proven = replace(complete, proven_by=tuple(commands))

    def load() -> Proof:
        return prove_once(complete, store, sandbox=sandbox, limits=limits)

    # Elsewhere than on Linux a fork may break what the system's own libraries hold.
    if beside and not commands and sys.platform == "linux":
        with fork_work(load, patience_seconds=_PATIENCE_SECONDS) as loading:
            yield Proving(proven, lambda: (_wait_for(loading, store), ()), loading.is_done)
        return
    proof = load()
    ran = []
    for command in commands:
        watcher.begin("prove", f"running without a network: {command}")
        ran.append(prove_command(command, complete, store, sandbox=sandbox, limits=limits))
        if ran[-1].read_files is None:
            watcher.note(f"`{command}`: this system does not tell whether it opened a file of the bundle")
    yield Proving(proven, lambda: (proof, tuple(ran)))


def _wait_for(loading: ForkedWork[Proof], store: Store) -> Proof:
    try:
        return loading.wait()
    except ForkedWorkError as error:
        # Whatever it was about to remove is for us to remove.
        store.clear_work()
        raise ProofError(
            f"the process that proves ended with exit code {error.exit_code} and without a result",
            hint=MEMORY_HINT if error.exit_code == -signal.SIGKILL else None,
        ) from error
