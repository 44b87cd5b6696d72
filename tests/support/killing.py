"""Kill a process with SIGKILL at every step that it takes on the file system.

Run as a program of its own (`python -m tests.support.killing SCRATCH [ACTION [STRIDE [FIRST]]]`), since it forks: a
fork of a test runner with threads may hang. For n = FIRST, FIRST + STRIDE, … it forks a child that does the work and
kills itself at its n-th file system step, checks what is left, lets a second child finish, checks again, and stops at
the first n that the work outlives. Without more than SCRATCH it kills every action at every step: `make soak-home`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from bundler.format.reader import BundleReader
from bundler.home.generation import GENERATIONS_FOLDER
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.receipt import REMOVING_SUFFIX
from bundler.home.remove import remove
from bundler.plan.layout import layout
from bundler.plan.lock import Lock
from tests.support.bundles import COMMIT, OTHER_COMMIT, locked_repo, tiny_bundle

ACTIONS = ("install", "stream", "upgrade", "remove")
FILES = {"config.json": b"{}", "w.safetensors": b"w" * 100_000}
PREPARED = {"default/0.0.0/h/d-train.arrow": b"arrow" * 1000, "default/0.0.0/h/dataset_info.json": b"{}"}

# Audit events (PEP 578) that change a file system, or open a file to write.
STEPS = {"os.rename", "os.remove", "os.symlink", "os.link", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


def _kill_self_at(step: int) -> None:
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in STEPS or writes:
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.addaudithook(hook)


def in_child(work: Callable[[], object], *, kill_at: int | None) -> int:
    """Run `work` in a forked child; return 0, or 9 for killed. A failure of the work ends this program."""
    pid = os.fork()
    if pid == 0:
        try:
            if kill_at is not None:
                _kill_self_at(kill_at)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        raise SystemExit("the work failed")
    return 0


def whole_or_absent(home: Path, lock: Lock) -> str:
    """Check that each repo of `lock` is either loadable whole or not visible at all; return what is visible."""
    contents = layout(lock)
    visible = []
    for repo in contents.repos:
        for folder in (repo.folder, *(path for path, _ in repo.alias_links() if path.startswith("hub/"))):
            for name, commit in repo.refs.items():
                ref = home / folder / "refs" / name
                if not ref.exists() or ref.read_text() != commit:
                    continue
                assert (home / folder / "trees" / f"{commit}.json").exists(), f"{folder}: a ref before its tree"
                for file in repo.snapshots:
                    place = home / folder / file.path.removeprefix(f"{repo.folder}/")
                    assert place.stat().st_size == file.blob.size_bytes, f"{place}: half visible"
                visible.append(folder)
        for blob in repo.prepared:
            place = home / blob.path
            if place.parent.exists():
                assert place.stat().st_size == blob.size_bytes, f"{place}: half visible dataset"
    for name in Home(home).names():
        report = Home(home).bundle(name).verify(jobs=1)
        assert report.ok, report.faults
    return ",".join(visible)


def make_bundle(directory: Path, commit: str, files: dict[str, bytes]) -> Path:
    """Return a bundle of a model and a prepared dataset, each with another name."""
    model = locked_repo("org/m", files, aliases=["m"], absent=["none.json"], lfs=["w.safetensors"], commit=commit)
    data = locked_repo("org/d", {"d.txt": b"d"}, kind="dataset", prepared=PREPARED, aliases=["d"])
    return tiny_bundle(directory, model, data, contents=[*files.values(), b"d", *PREPARED.values()])


def sweep(action: str, scratch: Path, stride: int, first: int) -> None:
    """Kill one of ACTIONS at every so many steps; print what was seen as JSON."""
    home = scratch / "home"
    old = make_bundle(scratch / "old", OTHER_COMMIT, FILES | {"w.safetensors": b"older"})
    new = make_bundle(scratch / "new", COMMIT, FILES)
    locks = []
    for path in (old, new):
        with BundleReader(path) as reader:
            locks.append(reader.lock)
    works: dict[str, Callable[[], object]] = {
        "install": lambda: install(new, home, jobs=1),
        "stream": lambda: install(FileIO(str(new)), home, jobs=1),
        "upgrade": lambda: install(new, home, jobs=1),
        "remove": lambda: remove("tiny", home),
    }
    seen: set[str] = set()
    step = first
    while True:
        shutil.rmtree(home, ignore_errors=True)
        if action not in ("install", "stream"):
            install(old, home, jobs=1)
        if in_child(works[action], kill_at=step) == 0:
            break
        if action == "remove":
            # A removal may take things away in any order, but never leave a bundle listed that is not whole.
            for name in Home(home).names():
                assert Home(home).bundle(name).verify(jobs=1).ok
        elif action == "upgrade" and Home(home).names():
            # Between the commits of two versions, one of them is whole.
            states = []
            for lock in locks:
                try:
                    states.append(whole_or_absent_files(home, lock))
                except (AssertionError, OSError):
                    states.append(False)
            assert any(states), f"step {step}: neither version is whole"
        else:
            seen.add(whole_or_absent(home, locks[1]))
        # Killed in its last step, letting go of the lock, a removal has nothing left to finish.
        if action != "remove" or _is_left(home, "tiny"):
            in_child(works[action], kill_at=None)
        if action == "remove":
            assert not list((home / "hub").glob("*--*")), list((home / "hub").rglob("*"))
        else:
            assert Home(home).bundle("tiny").verify(jobs=1).ok, f"step {step}: not finished by the next run"
            left = list(home.rglob(".bundle-tmp-*"))
            assert not left, left
        step += stride
    print(json.dumps({"steps": step, "seen": sorted(seen)}))


def _is_left(home: Path, name: str) -> bool:
    hidden = list((home / GENERATIONS_FOLDER / name).glob(f"*{REMOVING_SUFFIX}"))
    return name in Home(home).all_names() or bool(hidden)


def whole_or_absent_files(home: Path, lock: Lock) -> bool:
    """Tell whether every snapshot file of a lock is there with its size."""
    return all(
        (home / file.path).stat().st_size == file.blob.size_bytes
        for repo in layout(lock).repos
        for file in repo.snapshots
    )


def main(scratch: str, action: str | None = None, stride: str = "1", first: str = "0") -> None:
    """Kill one action, or each, at every so many steps, from the first on."""
    for one in ACTIONS if action is None else (action,):
        sweep(one, Path(scratch), int(stride), int(first))


if __name__ == "__main__":
    main(*sys.argv[1:])
