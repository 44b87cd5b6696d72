"""Run a process of the proof: off the network, in a sandbox, within limits, with its output in a log."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.make.proof.process.folders import Folders
from bundler.offline.kernel.isolation import Requested
from bundler.offline.launch.launch import Completed, run_isolated
from bundler.offline.sandbox.limits import Breach, Limits, Watcher
from bundler.offline.sandbox.sandbox import Sandbox, make_entry
from bundler.offline.sandbox.visible import Visible


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What holds a process.

    Attributes:
        isolate: The isolation, as for `bundle run`.
        sandbox: What `choose_confinement` returned.
        limits: What it may take of this machine.
    """

    isolate: Requested
    sandbox: Sandbox
    limits: Limits

    def run(
        self,
        argv: Sequence[str],
        folders: Folders,
        *,
        env: Mapping[str, str],
        visible: Visible,
        cwd: Path,
        log: Path,
        read_step: Callable[[], int] = lambda: 0,
    ) -> tuple[Completed, Breach | None]:
        """Run a process to its end; return how it ended, and the limit that it went over.

        Args:
            argv: Command and arguments.
            folders: Its folders.
            env: Its whole environment.
            visible: The files that are there for it.
            cwd: Its working folder.
            log: Where its output goes.
            read_step: Returns the step of its work that it says it is at.

        Raises:
            OfflineError: This machine does not support the isolation.
        """
        log.touch()
        watcher = Watcher(self.limits, (*folders.writable, log), read_step)
        with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
            completed = run_isolated(
                argv,
                env=env,
                isolate=self.isolate,
                confine=make_entry(self.sandbox, visible, folders.root, self.limits),
                wait=watcher.wait,
                cwd=cwd,
                stdin=nothing,
                stdout=output,
                stderr=output,
            )
        return completed, watcher.breach
