"""Kill an upgrade and a rollback at every step, and let a command of another bundle follow.

Run as a program of its own, since it forks: `python -m tests.home.generations.killed_moves SCRATCH`. In SCRATCH are two
versions of a bundle, and another one.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.installation.install import install
from tests.support.killing import in_child


def main(scratch: Path) -> None:
    """Print for each action how many steps it has, and after how many of them the shared view was behind."""
    old, new, other = (scratch / name for name in ("0/demo.tar.zst", "1/demo.tar.zst", "other/other.tar.zst"))
    home = scratch / "home"
    works: dict[str, Callable[[], object]] = {
        "install": partial(install, new, home, jobs=1),
        "rollback": partial(rollback, "demo", home),
    }
    seen = {}
    for action, work in works.items():
        step = moved = 0
        while True:
            shutil.rmtree(home, ignore_errors=True)
            install(old, home, jobs=1)
            if action == "rollback":
                install(new, home, jobs=1)
            if in_child(work, kill_at=step) == 0:
                break
            moved += not Home(home).bundle("demo").verify(jobs=1).ok
            install(other, home, jobs=1)
            report = Home(home).bundle("demo").verify(jobs=1)
            assert report.ok, f"{action} killed at {step}: {report.faults}"
            assert not list(home.rglob("*.moving")), f"{action} killed at {step}"
            step += 1
        seen[action] = {"steps": step, "moved": moved}
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
