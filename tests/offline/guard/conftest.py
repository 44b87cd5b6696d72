"""Scripts in guarded interpreters, without a namespace."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

from bundler.offline.guard.attempts import Attempt, read_attempts
from bundler.offline.variables import Launch, offline_environment
from tests.support.process import run


class Guarded:
    """Runs scripts in guarded interpreters and reads what was noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "attempts"
        self.notes.mkdir()
        launch = Launch(attempts_dir=self.notes)
        self.env = offline_environment(folder / "hf-home", launch=launch).apply(os.environ)
        self.code = 0
        self.out = self.err = ""

    def run(self, code: str, *flags: str, env: dict[str, str] | None = None) -> list[Attempt]:
        path = self.folder / "user_script.py"
        path.write_text(textwrap.dedent(code))
        done = run([sys.executable, *flags, path], env={**self.env, **(env or {})}, check=False)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        return read_attempts(self.notes)


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)
