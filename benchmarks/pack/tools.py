"""The tools that are measured: what each one's pack, install and verify are, as commands.

Rule book:

* a tool is run by its public command with its defaults; where it has none (packing alone, zipnn), a child script of
  this folder makes the one library call;
* what a tool cannot do is a `Refusal` with the reason, and stands in the table as such;
* downloads, and hashing that a tool does while it downloads, are done before the clock starts (`prepare`).
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.lib.measure import Step, command, files_in, remove

Action = Literal["pack", "install", "verify"]
ACTIONS: tuple[Action, ...] = ("pack", "install", "verify")

_HERE = Path(__file__).parents[1]
# The commands that were installed beside this interpreter, not others of the same name on PATH.
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Refusal:
    """Why a tool has no figure; a table's cell shows `short`, the notes below it the reason."""

    reason: str
    short: str = "no"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Files to carry.

    Attributes:
        name: Names it in commands, folders and tables.
        title: For people.
        dtype: What the weights are: BF16, F16 or F32.
        folder: The files, a repo as a Hub has it.
        repo_id: Its id there.
        work: Where tools may write.
    """

    name: str
    title: str
    dtype: str
    folder: Path
    repo_id: str
    work: Path

    @property
    def files(self) -> list[Path]:
        """All files, sorted."""
        return sorted(self.folder.iterdir())


class Tool(Protocol):
    """One column of the comparison."""

    name: str

    def prepare(self, case: Case) -> Step | None:
        """Do what comes before the clock starts; a step that is returned is run, unmeasured."""

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """Return the command that does `action` on `case`."""

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """Return where each file of the case stands after an install, so that it can be compared."""

    def clear(self, case: Case) -> None:
        """Remove what `install` made."""


def plain(folder: Path) -> dict[str, Path]:
    """Map the files of an installed folder by their names."""
    return {path.name: path for path in folder.iterdir()}


@dataclass
class Bundle:
    """This repository's bundles."""

    name: str = "bundle"
    jobs: int | None = None

    def _place(self, case: Case) -> Path:
        return case.work / self.name.replace(" ", "-")

    def bundle(self, case: Case) -> Path:
        """Where the bundle of the case is written."""
        return self._place(case) / f"{case.name}.tar.zst"

    def home(self, case: Case) -> Path:
        """Where it is installed."""
        return self._place(case) / "hf-home"

    def _lock(self, case: Case) -> Path:
        return self._place(case) / "bench.lock"

    def prepare(self, case: Case) -> Step | None:
        """Make the lock, whose digests a fetch takes while it downloads."""
        lock = self._lock(case)
        lock.parent.mkdir(parents=True, exist_ok=True)
        argv = command(
            sys.executable, "-m", "benchmarks.pack.pack_child", "lock", case.name, case.repo_id, case.folder, lock
        )
        return Step(argv=argv, shown="(lock)", reads=(case.folder,), writes=(lock,), cwd=_HERE.parent)

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        bundle, home = self.bundle(case), self.home(case)
        jobs = [] if self.jobs is None else ["--jobs", str(self.jobs)]
        shown_jobs = "".join(f" {word}" for word in jobs)
        if action == "pack":
            numbers = [] if self.jobs is None else [str(self.jobs)]
            lock = self._lock(case)
            return Step(
                argv=[
                    sys.executable,
                    "-m",
                    "benchmarks.pack.pack_child",
                    "pack",
                    lock,
                    case.folder,
                    bundle,
                    *numbers,
                ],
                shown=f"bundler.make.pack.pack(lock, …{'' if self.jobs is None else f', jobs={self.jobs}'})",
                reads=(case.folder,),
                writes=(bundle,),
                cwd=_HERE.parent,
            )
        if action == "install":
            return Step(
                argv=[BIN / "bundle", "install", bundle, "--hf-home", home, *jobs],
                shown=f"bundle install BUNDLE --hf-home HF_HOME{shown_jobs}",
                reads=(bundle,),
                writes=(home,),
            )
        return Step(
            argv=[BIN / "bundle", "verify", case.name, "--hf-home", home, *jobs],
            shown=f"bundle verify NAME --hf-home HF_HOME{shown_jobs}",
            reads=(home,),
        )

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """See `Tool`."""
        (snapshot,) = self.home(case).glob("hub/models--*/snapshots/*")
        return plain(snapshot)

    def clear(self, case: Case) -> None:
        """See `Tool`."""
        remove(self.home(case))


@dataclass
class TarZstd:
    """`tar` through `zstd -3 -T0`: what people do."""

    name: str = "tar | zstd -3"

    def prepare(self, case: Case) -> Step | None:
        """Nothing to do."""
        (case.work / "tar").mkdir(parents=True, exist_ok=True)
        return None

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        archive, out = case.work / "tar" / "repo.tar.zst", case.work / "tar" / "out"
        if action == "pack":
            line = f"tar -C {_q(case.folder)} -cf - . | zstd -3 -T0 -q -f -o {_q(archive)}"
            return Step(
                argv=_pipe(line), shown="tar -cf - . | zstd -3 -T0", reads=(case.folder,), writes=(archive,)
            )
        if action == "install":
            line = f"mkdir {_q(out)} && zstd -dc {_q(archive)} | tar -C {_q(out)} -xf -"
            return Step(argv=_pipe(line), shown="zstd -dc | tar -xf -", reads=(archive,), writes=(out,))
        return Refusal("nothing in the archive says what the files should be", "verifies nothing")

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """See `Tool`."""
        return plain(case.work / "tar" / "out")

    def clear(self, case: Case) -> None:
        """See `Tool`."""
        remove(case.work / "tar" / "out")


@dataclass
class Copy:
    """`cp`: what writing the files costs on this machine at least."""

    name: str = "cp"

    def prepare(self, case: Case) -> Step | None:
        """Nothing to do."""
        (case.work / "cp").mkdir(parents=True, exist_ok=True)
        return None

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        out = case.work / "cp" / "out"
        if action == "install":
            argv = command("cp", "-r", "--reflink=never", case.folder, out)
            return Step(argv=argv, shown="cp -r --reflink=never", reads=(case.folder,), writes=(out,))
        return Refusal("a limit for install only", "")

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """See `Tool`."""
        return plain(case.work / "cp" / "out")

    def clear(self, case: Case) -> None:
        """See `Tool`."""
        remove(case.work / "cp" / "out")


@dataclass
class ToDisk:
    """`dd` past the page cache, one file after the other: what waiting for the disk costs at least."""

    name: str = "dd to disk"

    def prepare(self, case: Case) -> Step | None:
        """Nothing to do."""
        (case.work / "dd").mkdir(parents=True, exist_ok=True)
        return None

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        if action != "install":
            return Refusal("a limit for install only", "")
        out = case.work / "dd" / "out"
        each = 'dd if="$file" of="$out/${file##*/}" bs=8M oflag=direct conv=fsync status=none'
        line = f"out={_q(out)}; mkdir $out; for file in {_q(case.folder)}/*; do {each} || exit; done"
        shown = "dd bs=8M oflag=direct conv=fsync, of each file"
        return Step(argv=_pipe(line), shown=shown, reads=(case.folder,), writes=(out,))

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """See `Tool`."""
        return plain(case.work / "dd" / "out")

    def clear(self, case: Case) -> None:
        """See `Tool`."""
        remove(case.work / "dd" / "out")


@dataclass
class OpenSsl:
    """`openssl dgst -sha256` of the files: what hashing them costs with the usual tool."""

    ours: Bundle
    name: str = "openssl dgst"

    def prepare(self, case: Case) -> Step | None:
        """Nothing to do."""
        return None

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        if action != "verify":
            return Refusal("a limit for verify only", "")
        # The very files that `bundle verify` reads.
        blobs = list(files_in(self.ours.home(case) / "hub"))
        argv = command("openssl", "dgst", "-sha256", *blobs)
        return Step(argv=argv, shown="openssl dgst -sha256 FILES", reads=(self.ours.home(case),))

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """It installs nothing."""
        return None

    def clear(self, case: Case) -> None:
        """Nothing to remove."""


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _pipe(line: str) -> Sequence[str]:
    return ["bash", "-o", "pipefail", "-c", line]


def own_and_stock(*, with_jobs: bool) -> Iterator[Tool]:
    """Yield the tools that need nothing but this repository and a Linux machine.

    Args:
        with_jobs: With one job and with two as well, beside the default of all cores.
    """
    ours = Bundle()
    yield ours
    if with_jobs:
        yield Bundle(name="bundle -j 1", jobs=1)
        yield Bundle(name="bundle -j 2", jobs=2)
    yield TarZstd()
    yield Copy()
    yield ToDisk()
    yield OpenSsl(ours)


def toml_string(text: str) -> str:
    """Return a TOML basic string; JSON's are ones."""
    return json.dumps(text, ensure_ascii=False)
