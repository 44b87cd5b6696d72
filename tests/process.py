"""Child processes of tests: the Hugging Face libraries read the environment when imported, so each test that sets
one needs a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

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
        AssertionError: `check` is set and the command failed; the message shows what it wrote.
    """
    done = subprocess.run(
        [str(word) for word in argv],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode:
        raise AssertionError(
            f"{argv[0]} ended with {done.returncode}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        )
    return done


def run_python(
    code: str, *arguments: str | Path, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run code, indented as it stands in the test, in a fresh interpreter; `arguments` are its `sys.argv[1:]`."""
    return run([sys.executable, "-c", textwrap.dedent(code), *arguments], env=env, check=check)


def script(name: str) -> Path:
    """Return the path of a command installed beside this interpreter, for instance ``hf`` or ``bundle``."""
    return Path(sys.executable).with_name(name)
