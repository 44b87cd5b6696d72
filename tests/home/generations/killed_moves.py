"""Kill an upgrade and a rollback at every so many steps, and let a command of another bundle follow.

Run as a program of its own, since it forks: `python -m tests.home.generations.killed_moves SCRATCH STRIDE`. The bundles
are two versions of one, and another; `make soak-home` takes every step.
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
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle
from tests.support.killing import in_child


def make_bundles(scratch: Path) -> tuple[Path, Path, Path]:
    """Return two versions of a bundle, and another one; what is prepared has one path in both versions."""
    versions = []
    for version, commit in enumerate((COMMIT, OTHER_COMMIT)):
        arrow = f"arrow {version}".encode()
        prepared = {"default/0.0.0/h/d.arrow": arrow}
        repo = locked_repo("org/d", {"d": b"d"}, kind="dataset", commit=commit, aliases=["d"], prepared=prepared)
        versions.append(tiny_bundle(scratch / str(version), repo, contents=[b"d", arrow], name="demo"))
    other = tiny_bundle(scratch / "other", locked_repo("org/o", {"o": b"o"}), contents=[b"o"], name="other")
    return versions[0], versions[1], other


def main(scratch: Path, stride: int) -> None:
    """Print for each action how many steps it has, and after how many of them the shared view was behind."""
    old, new, other = make_bundles(scratch)
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
            step += stride
        seen[action] = {"steps": step, "moved": moved}
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
