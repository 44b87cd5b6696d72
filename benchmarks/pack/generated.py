"""Generated weights in a folder, and the lock and the bundle of them, each made by a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.lib.measure import command

_ROOT = Path(__file__).parents[2]


def generate_weights(shape: str, repo_id: str, files: Path, lock: Path) -> None:
    """Write weights of a shape (`benchmarks.pack.weights`) into a folder, and a lock of them as one repo.

    Args:
        shape: Name of the shape.
        repo_id: What the repo is called; the bundle has its last part as its name.
        files: The folder.
        lock: The lock.
    """
    files.mkdir(parents=True)
    _run("weights", "generate", shape, files)
    _run("pack_child", "lock", repo_id.rpartition("/")[2], repo_id, files, lock)


def pack_weights(lock: Path, files: Path, bundle: Path) -> None:
    """Write the bundle of a lock."""
    _run("pack_child", "pack", lock, files, bundle)


def _run(module: str, *words: str | Path) -> None:
    argv = command(sys.executable, "-m", f"benchmarks.pack.{module}", *words)
    subprocess.run(argv, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)
