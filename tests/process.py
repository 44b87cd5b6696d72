"""Child processes of tests: the Hugging Face libraries read the environment when imported, so each test that sets
one needs a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

# Generous: the machine may be busy. Only a test that hangs ever meets it.
TIMEOUT_SECONDS = 300


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
    with subprocess.Popen(
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
        except BaseException as error:
            # All of them: its children hold the pipes too, and the end of those is what is waited for.
            killed = _kill_tree(process.pid)
            stdout, stderr = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise AssertionError(
                    f"{argv[0]} did not end in {TIMEOUT_SECONDS} s; killed: {killed}"
                    f"\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
                ) from None
            raise
    if check and process.returncode:
        raise AssertionError(
            f"{argv[0]} ended with {process.returncode}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _kill_tree(pid: int) -> list[str]:
    """Kill a process and all below it; return what each was."""
    top = psutil.Process(pid)
    killed = []
    for process in [top, *top.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            killed.append(" ".join(process.cmdline()[:6]))
            process.kill()
    return killed


def run_python(
    code: str, *arguments: str | Path, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run code, indented as it stands in the test, in a fresh interpreter; `arguments` are its `sys.argv[1:]`."""
    return run([sys.executable, "-c", textwrap.dedent(code), *arguments], env=env, check=check)


def script(name: str) -> Path:
    """Return the path of a command installed beside this interpreter, for instance ``hf`` or ``bundle``."""
    return Path(sys.executable).with_name(name)
