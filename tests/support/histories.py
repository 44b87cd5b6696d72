"""Random histories of a home: three bundles that overlap are installed, upgraded, rolled back, removed and pruned.

Run as a program of its own, since it forks: `python -m tests.support.histories FIRST_SEED COUNT SCRATCH`. Each history
takes some steps, of which some are killed at a random step on the file system. Readers, each of which stands for a job
that notes its launch and reads through its view, go on meanwhile. After each step:

* every bundle that is listed verifies, unless the step before was killed and not yet done again;
* every reader finds each file of its generation, byte by byte;
* once a killed step is done again, what is listed verifies, and nothing half-written is left.

At the end of a history all readers end, all bundles are removed and pruned, and nothing is left but the log.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bundler.errors import BundleError, NotInstalledError
from bundler.home.common.journal import list_unfinished
from bundler.home.generations.prune import prune
from bundler.home.generations.rollback import rollback
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.installed import InstalledBundle
from bundler.home.launches import note_launch
from bundler.home.remove import remove
from bundler.home.view.open import open_view
from tests.support.bundles import locked_repo, tiny_bundle, tree
from tests.support.killing import in_child

STEPS = 12
NAMES = ("a", "b", "c")
VERSIONS = 3


def make_bundles(folder: Path) -> dict[str, list[Path]]:
    """Return the versions of each bundle: they share a repo, at commits that differ, and content."""
    made: dict[str, list[Path]] = {}
    for name in NAMES:
        for version in range(VERSIONS):
            shared = {"common": b"common", "versioned": f"version {version}".encode()}
            own = {"own": f"{name} {version}".encode(), "same": b"common"}
            arrow = f"arrow {version}".encode()
            repos = [
                locked_repo("org/shared", shared, commit=f"{version}" * 40, aliases=["short"], absent=["none"]),
                locked_repo(f"org/{name}", own, commit=f"{version + 3}" * 40, lfs=["own"]),
                locked_repo(
                    "org/data",
                    {"d": b"d"},
                    kind="dataset",
                    commit=f"{version}" * 40,
                    prepared={f"default/0.0.0/{version}/d.arrow": arrow},
                ),
            ]
            contents = [*shared.values(), *own.values(), b"d", arrow]
            place = folder / f"{name}-{version}"
            made.setdefault(name, []).append(tiny_bundle(place, *repos, contents=contents, name=name))
    return made


@dataclass
class History:
    """One home and what is going on in it."""

    home: Path
    bundles: dict[str, list[Path]]
    chance: random.Random
    readers: list[tuple[InstalledBundle, ExitStack]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Take all steps, then clear the home."""
        for _ in range(STEPS):
            self._step()
        for _, noted in self.readers:
            noted.close()
        self.readers.clear()
        for name in NAMES:
            if name in {*Home(self.home).all_names(), *list_unfinished(self.home)}:
                in_child(partial(remove, name, self.home), kill_at=None)
        in_child(partial(prune, self.home), kill_at=None)
        left = {path for path in tree(self.home) if "launches" not in path} if self.home.exists() else set()
        assert not left, f"{self.done}: left are {sorted(left)}"

    def _step(self) -> None:
        name = self.chance.choice(NAMES)
        version = self.chance.randrange(VERSIONS)
        works: dict[str, Callable[[], object]] = {
            f"install {name} {version}": partial(install, self.bundles[name][version], self.home, jobs=1),
            f"rollback {name}": partial(_unless_refused, partial(rollback, name, self.home)),
            f"remove {name}": partial(_unless_refused, partial(remove, name, self.home)),
            "prune": partial(prune, self.home),
        }
        [(what, work)] = self.chance.choices(list(works.items()), weights=[6, 2, 1, 2])
        kill_at = self.chance.randrange(60) if self.chance.random() < 0.4 else None
        self.done.append(what if kill_at is None else f"{what} killed at {kill_at}")
        was_killed = in_child(work, kill_at=kill_at) != 0
        self._check_readers()
        if was_killed:
            if self.chance.random() < 0.5:
                in_child(work, kill_at=None)
            else:
                return  # the next step has to cope
        self._check_installed()
        if self.chance.random() < 0.3:
            self._start_reader()
        if self.readers and self.chance.random() < 0.2:
            _, noted = self.readers.pop(self.chance.randrange(len(self.readers)))
            noted.close()

    def _start_reader(self) -> None:
        home = Home(self.home)
        for name in home.names():
            noted = ExitStack()
            bundle = home.bundle(name)
            assert noted.enter_context(note_launch(self.home, [bundle]))
            self.readers.append((bundle, noted))
            break

    def _check_readers(self) -> None:
        for bundle, _ in self.readers:
            report = bundle.verify(view=open_view(self.home, [bundle]), jobs=1)
            assert bundle.view != self.home and report.ok, f"{self.done}: a reader finds {report.faults}"

    def _check_installed(self) -> None:
        for bundle in Home(self.home).bundles():
            report = bundle.verify(jobs=1)
            if not report.ok and self.done and "killed" in " ".join(self.done[-2:]):
                # What a killed step of another bundle left; to install this one again mends it, as the hint says.
                in_child(partial(self._mend, bundle), kill_at=None)
                report = Home(self.home).bundle(bundle.name).verify(jobs=1)
            assert report.ok, f"{self.done}: {bundle.name} has {report.faults}"

    def _mend(self, bundle: InstalledBundle) -> None:
        for path in self.bundles[bundle.name]:
            if install(path, self.home, jobs=1).bundle.digest == bundle.digest:
                return


def _unless_refused(work: Callable[[], object]) -> None:
    with suppress(NotInstalledError):
        work()


def main(first_seed: int, count: int, scratch: Path) -> None:
    """Run histories; print how many there were as JSON."""
    bundles = make_bundles(scratch / "bundles")
    for seed in range(first_seed, first_seed + count):
        home = scratch / "home"
        shutil.rmtree(home, ignore_errors=True)
        history = History(home, bundles, random.Random(seed))
        try:
            history.run()
        except (AssertionError, BundleError, OSError) as error:
            sys.exit(f"seed {seed}: {history.done}: {type(error).__name__}: {error}")
    sys.stdout.write(json.dumps({"histories": count, "steps": count * STEPS}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
