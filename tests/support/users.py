"""Commands as other users and groups of the system, by number: none of them needs to exist."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ALICE, BOB, MALLORY = 60101, 60102, 60103
TEAM = 60200
NOBODY = 65534


def bundle_as(
    uid: int, *words: object, groups: Sequence[int] = (), umask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    """Run `bundle` as a user who is in `groups` besides a group of his own."""
    listing = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    # They may not write where coverage does.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    code = "import os, sys; os.umask(int(sys.argv.pop(1))); from bundler.cli import main; main(prog_name='bundle')"
    return subprocess.run(
        [
            "setpriv",
            f"--reuid={uid}",
            f"--regid={uid}",
            *listing,
            sys.executable,
            "-c",
            code,
            str(umask),
            *map(str, words),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**inherited, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def _find_obstacle() -> str | None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return "needs root and setpriv, to become other users"
    done = bundle_as(ALICE, "--version")
    # As where Python itself is in the home of root.
    return f"another user cannot start `bundle` here: {done.stderr.strip()[-200:]}" if done.returncode else None


_OBSTACLE = _find_obstacle()
needs_root = pytest.mark.skipif(_OBSTACLE is not None, reason=_OBSTACLE or "")


def make_open_folder() -> Iterator[Path]:
    """Make a folder that every user can reach, unlike pytest's own, and delete it in the end."""
    folder = Path(tempfile.mkdtemp(prefix="bundle-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Be bound by permission bits: as root, be somebody else for as long as the block runs."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
