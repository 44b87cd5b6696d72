"""Start a command in isolation and see it through to its end.

Two ways in: `run_isolated` for a child of our own (the proof of `bundle fetch`), `launch` for a user's command, which
must notice as little of us as can be:

* signals are passed on, and job control works (`signals`);
* the exit code is the command's, 128 + n if signal n killed it, 127 if it was not found, 126 if it cannot run;
* if we are killed outright, the kernel kills the command: it must not go on unreported.

The environment is the caller's affair (`environment`); only the guard's folder and the attempts folder are added.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bundler.errors import BundleError
from bundler.offline.guard.attempts import Attempt, count_lost, read_attempts
from bundler.offline.kernel.enforcement import enforcement
from bundler.offline.kernel.isolation import Isolation, Requested, choose
from bundler.offline.kernel.supervisor import Denial
from bundler.offline.launch.attempts_folder import (
    FolderWatch,
    attempts_folder,
    end_folder,
    read_inner,
    remove_folder,
)
from bundler.offline.launch.covered_files import cover_files
from bundler.offline.launch.descendants import adopt_orphans
from bundler.offline.launch.inherited import check_standard_streams
from bundler.offline.launch.parent_death import die_with_parent
from bundler.offline.launch.signals import block_signals, pass_signals_on
from bundler.offline.launch.spawn import Streams, start
from bundler.offline.variables import ALLOW_NET, ATTEMPTS_DIR, ISOLATION, SITE_FOLDER, put_first_on_python_path


@dataclass(frozen=True, kw_only=True)
class Completed:
    """How an isolated command ended.

    Attributes:
        exit_code: Its exit code; 128 + n if signal n ended it.
        isolation: What was in force.
        refused: Connections that the guard refused in Python processes, each with its code line.
        kernel_refused: Connections that the kernel refused, of any process; None if nobody counted.
        inner_refused: Those that it refused in launches inside this one, by what held them there.
        denials: Both by target and program, where these are known.
        lost: Refusals inside Python that the launcher was told of and whose notes are gone: deleted, or never written.
        uncounted: What nobody can know of this launch: what was left running, notes that are gone.
    """

    exit_code: int
    isolation: Isolation
    refused: tuple[Attempt, ...]
    kernel_refused: int | None
    inner_refused: int = 0
    denials: tuple[Denial, ...] = ()
    lost: int = 0
    uncounted: tuple[str, ...] = ()

    @property
    def attempts(self) -> int:
        """All attempts at the network that are known: the counts never hold one attempt twice."""
        return len(self.refused) + self.lost + (self.kernel_refused or 0) + self.inner_refused


def run_isolated(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    isolate: Requested = "auto",
    allow_net: Sequence[str] = (),
    confine: Callable[[Path], None] | None = None,
    wait: Callable[[int, Path], int] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Completed:
    """Run a child command to its end, off the network.

    Args:
        argv: Command and arguments.
        env: Its whole environment, for instance of `offline_environment(hf_home).apply(os.environ)`; the guard is
            added here.
        isolate: auto, netns, seccomp, landlock or none.
        allow_net: Networks that stay in reach besides loopback, as CIDR.
        confine: What the child does after it was isolated and before it becomes the command: it enters a sandbox
            (`bundler.offline.sandbox`). It is told in which folder attempts are noted.
        wait: What waits for the child, given its number and that folder, and returns its wait status; it may end it.
        cwd: Its working directory.
        stdin: A file, a descriptor, `subprocess.DEVNULL`, or None for ours.
        stdout: The same.
        stderr: The same.

    Raises:
        OfflineError: The isolation that was asked for cannot be had.
        CommandNotFoundError: There is no such command.
        CommandNotExecutableError: It cannot be executed.
    """
    isolation = choose(isolate, allow_net)
    streams = Streams(stdin=stdin, stdout=stdout, stderr=stderr)

    def begin(prepare: Callable[[], None], meanwhile: Callable[[int], None], env: dict[str, str]) -> int:
        def prepare_and_confine() -> None:
            prepare()
            if confine:
                confine(Path(env[ATTEMPTS_DIR]))

        return start(argv, env, prepare=prepare_and_confine, meanwhile=meanwhile, cwd=cwd, streams=streams)

    return _run(begin, env, isolation, wait or (lambda child, _: os.waitpid(child, 0)[1]))


def launch(
    argv: Sequence[str], *, env: Mapping[str, str], isolation: Isolation, hidden: Sequence[Path] = ()
) -> Completed:
    """Run a user's command in place of this process, as far as anybody can tell; to be called in the main thread.

    Args:
        argv: Command and arguments.
        env: Its whole environment; the guard is added here.
        isolation: What `choose` returned.
        hidden: Files that the command finds empty, where the isolation has a view of the file system of its own.

    Raises:
        OfflineError: The isolation failed, though it worked when tried; or a standard stream is a network socket.
        CommandNotFoundError: There is no such command.
        CommandNotExecutableError: It cannot be executed.
    """
    check_standard_streams()
    with block_signals() as mask:

        def begin(prepare: Callable[[], None], meanwhile: Callable[[int], None], env: dict[str, str]) -> int:
            def prepare_and_unblock() -> None:
                prepare()
                if isolation.names and not isolation.inherited:
                    cover_files(hidden)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)

            return start(argv, env, prepare=prepare_and_unblock, meanwhile=meanwhile)

        return _run(begin, env, isolation, lambda child, _: pass_signals_on(child))


def _run(
    begin: Callable[[Callable[[], None], Callable[[int], None], dict[str, str]], int],
    env: Mapping[str, str],
    isolation: Isolation,
    wait: Callable[[int, Path], int],
) -> Completed:
    with attempts_folder() as folder, adopt_orphans() as descendants, enforcement(isolation) as held:
        watch = FolderWatch(folder)

        def prepare() -> None:
            held.enter()
            # After the namespace, which resets it.
            die_with_parent()

        try:
            child = begin(prepare, held.attach, _add_guard(env, folder, isolation))
        except BundleError:
            remove_folder(folder)  # nothing ran
            raise
        code = os.waitstatus_to_exitcode(wait(child, folder))
        left = descendants.left_behind()
        refused = held.finish()
        gone = watch.why_gone() if refused.told is None else None
        end_folder(folder, refused.count, refused.denials)
        inner = read_inner(folder)
        noted = tuple(read_attempts(folder))
        return Completed(
            exit_code=128 - code if code < 0 else code,
            isolation=isolation,
            refused=noted,
            kernel_refused=refused.count,
            inner_refused=inner.count,
            denials=(*refused.denials, *inner.denials),
            lost=count_lost(refused.told or {}, noted),
            uncounted=(
                *(f"{process} outlives the command: what it tries from now on is not counted" for process in left),
                *([gone] if gone else []),
            ),
        )


def _add_guard(env: Mapping[str, str], folder: Path, isolation: Isolation) -> dict[str, str]:
    # A packet from this machine to itself never leaves it, whatever address it uses.
    allowed = (*isolation.reach.networks, *isolation.own_addresses)
    return {
        **env,
        "PYTHONPATH": put_first_on_python_path(env, str(SITE_FOLDER)),
        ATTEMPTS_DIR: str(folder),
        ALLOW_NET: ",".join(dict.fromkeys(str(network) for network in allowed)),
        # Under an outer launch, none here is still what holds there.
        **({ISOLATION: isolation.kind} if isolation.kind != "none" else {}),
    }
