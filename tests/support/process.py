"""Child processes of tests: the Hugging Face libraries read the environment when imported, so each test that sets
one needs a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import AnyStr

import psutil

# Generous: the machine may be busy. Only a test that hangs ever meets it.
TIMEOUT_SECONDS = 300


class Child(subprocess.Popen[AnyStr]):
    """A process that a failing test does not wait for: leaving the block by an error kills all of it."""

    def kill_all(self) -> list[str]:
        """Kill the process and all below it, which may hold its pipes; return what each was."""
        killed = []
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.pid)
            for process in [*top.children(recursive=True), top]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    killed.append(" ".join(process.cmdline()[:6]))
                    process.kill()
        return killed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill_all()
        super().__exit__(kind, error, trace)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with this process's (isolated) environment and `env` on top.

    Raises:
        AssertionError: The command hangs, or `check` is set and it failed; the message shows what it wrote.
    """
    with Child(
        [str(word) for word in argv],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            killed = process.kill_all()
            stdout, stderr = process.communicate()
            raise AssertionError(
                f"{argv[0]} did not end in {TIMEOUT_SECONDS} s; killed: {killed}"
                f"\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
            ) from None
    if check and process.returncode:
        raise AssertionError(
            f"{argv[0]} ended with {process.returncode}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run_python(
    code: str, *arguments: str | Path, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run code, indented as it stands in the test, in a fresh interpreter; `arguments` are its `sys.argv[1:]`."""
    return run([sys.executable, "-c", textwrap.dedent(code), *arguments], env=env, check=check)


def wait_until(is_so: Callable[[], object]) -> None:
    """Return once a question is answered with yes.

    Raises:
        AssertionError: It never is.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"it is not so after {TIMEOUT_SECONDS} s"
        time.sleep(0.02)


def script(name: str) -> Path:
    """Return the path of a command installed beside this interpreter, for instance ``hf`` or ``bundle``."""
    return Path(sys.executable).with_name(name)
