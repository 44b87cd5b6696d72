"""Run the command `infini-llama` in children that are forked, so that they need not import torch again.

That import takes a process several times as long as a tiny training. All else is as in a process of its own: the
bundle is verified, the network is shut, signals are real, and what is written goes to the process's own streams.
Programs that are started are tested in `cli/test_cli.py`, launches by torchrun there and in `train/test_two_nodes.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import datasets
import huggingface_hub
import torch
import transformers.trainer
from accelerate.state import AcceleratorState, GradientState, PartialState

import infini_llama.train.run
from bundler.offline import enforce
from infini_llama.cli import main
from tests.support.process import TIMEOUT_SECONDS

# For the children, which would import it otherwise.
_IMPORTED = (transformers.trainer, infini_llama.train.run)
_POLL_SECONDS = 0.02


class Fork:
    """A forked child that does some work; leaving the block by an error kills it.

    Args:
        work: What it does; returns the exit code.
        environment: Variables that it gets.

    Attributes:
        pid: Its process id.
    """

    def __init__(self, work: Callable[[], int], environment: Mapping[str, str] | None = None) -> None:
        # Open until nobody asks for what was written.
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        # Otherwise what the parent has not flushed is written by the child too.
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(self._run(work, environment or {}))
        self._handle = os.pidfd_open(self.pid)
        self._code: int | None = None

    def __enter__(self) -> Fork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._code is None:
            self.kill()
        self.end()

    def wait_for(self, start: str) -> None:
        """Return when it has written a line to stderr that starts so.

        Raises:
            AssertionError: It ended before.
        """
        until = time.monotonic() + TIMEOUT_SECONDS
        while not any(line.startswith(start) for line in self._read(self._err).splitlines()):
            ended, _, _ = select.select([self._handle], [], [], _POLL_SECONDS)
            assert not ended, f"it ended without {start!r}:\n{self._read(self._err)}"
            assert time.monotonic() < until, f"no {start!r} in {TIMEOUT_SECONDS} s:\n{self._read(self._err)}"

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return exit code, stdout and stderr."""
        if self._code is None:
            ended, _, _ = select.select([self._handle], [], [], TIMEOUT_SECONDS)
            if not ended:
                self.kill()
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._handle)
            assert ended, f"it did not end in {TIMEOUT_SECONDS} s:\n{self._read(self._err)}"
        return subprocess.CompletedProcess((), self._code, self._read(self._out), self._read(self._err))

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not select.select([self._handle], [], [], 0)[0]

    @staticmethod
    def _read(stream: io.BufferedRandom) -> str:
        # Not by the file's position, which the child shares.
        return os.pread(stream.fileno(), os.fstat(stream.fileno()).st_size, 0).decode()

    def _run(self, work: Callable[[], int], environment: Mapping[str, str]) -> int:
        """Do the work in the child, and return its exit code."""
        try:
            for number, stream in ((1, self._out), (2, self._err)):
                os.dup2(stream.fileno(), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            os.environ.update(environment)
            _begin_anew()
            code = work()
            # What the work wants done at its end, and nothing of the parent.
            atexit._run_exitfuncs()
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        return code


def _begin_anew() -> None:
    """Put back what a new process would not have."""
    atexit._clear()
    # The libraries look for garbage; what is imported stays, and what is not looked at is not copied.
    gc.freeze()
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    enforce._find_wrong_settings = _set_right  # type: ignore[assignment]


def _set_right(hub: Path) -> str:
    """Give the libraries the settings that they would have read, had they been imported after the network was shut.

    With others the command would start the program again.
    """
    huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    huggingface_hub.constants.HF_HUB_CACHE = str(hub)
    return ""


def fork_command(words: Sequence[object], environment: Mapping[str, str] | None = None) -> Fork:
    """Start a command."""

    def run() -> int:
        try:
            main([str(word) for word in words], prog_name="infini-llama")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    return Fork(run, environment)


def infini_llama_forked(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    with fork_command(words) as fork:
        return fork.end()


def rank_variables(count: int) -> list[dict[str, str]]:
    """Return the variables that torchrun sets for each rank of one node."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": str(port),
    }
    return [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def fork_ranks(count: int, words: Sequence[object]) -> list[Fork]:
    """Start a command in ranks of one node."""
    return [fork_command(words, variables) for variables in rank_variables(count)]


def run_ranks(count: int, words: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """Run a command in ranks of one node to its end, and return what rank 0 wrote.

    Raises:
        AssertionError: Another rank ended with another exit code, or wrote to stdout.
    """
    first, *others = end_ranks(fork_ranks(count, words))
    for other in others:
        assert (other.returncode, other.stdout) == (first.returncode, ""), other.stderr
    return first


def end_ranks(forks: Sequence[Fork]) -> list[subprocess.CompletedProcess[str]]:
    """Wait for the end of all ranks; if one does not end, kill all."""
    with contextlib.ExitStack() as stack:
        for fork in forks:
            stack.enter_context(fork)
        return [fork.end() for fork in forks]


def kill_after(prefix: str, number: signal.Signals) -> Callable[[str], None]:
    """Return what sends its process a signal when a line of log begins so."""

    def say(message: str) -> None:
        if message.startswith(prefix):
            os.kill(os.getpid(), number)
            # The thread that reads signals shall have its turn before the steps are through.
            time.sleep(0.5)

    return say
