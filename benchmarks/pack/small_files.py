"""What a repo of many small files costs beside the usual tools: what `make bench-files` runs.

    python -m benchmarks.pack.small_files [--write] [--files N] [--file-bytes N] [--rounds N]

CPU seconds of whole process trees; in each round ours comes next to theirs, and the ratio is taken of the two. What is
written is written to a new folder each time, and is on the disk when the clock stops: `bundle` waits for it by itself,
and `tar` is followed by `sync -f`. Everything is made in --work, which is removed at the end.
"""

from __future__ import annotations

import random
import shlex
import statistics
import sys
from pathlib import Path

import click

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.measure import Run, Step, command, measure
from benchmarks.lib.section import circumstances, publish, spread
from benchmarks.lib.work import work_folder
from benchmarks.pack.tools import BIN
from bundler.console.output import say
from bundler.text.wording import size

HERE = Path(__file__).parents[1]
MARKS = Marks("bench-files")
# At most so much CPU time for one second of the usual tool.
TARGETS = {"install": 4.0, "verify": 3.0}
TARGET_BYTES = 300_000_000
# What a file takes on the disk, with both archives and what is installed, for each round.
_ROOM_BYTES = 12_000


def _write_files(folder: Path, count: int, file_bytes: int) -> None:
    """Write files of hex digits, all different."""
    folder.mkdir(parents=True)
    source = random.Random(0)  # noqa: S311 -- the same bytes each time
    for number in range(count):
        (folder / f"{number:06}.txt").write_text(source.randbytes(file_bytes // 2).hex(), encoding="ascii")


def _steps(work: Path, number: int) -> dict[str, tuple[Step, Step | None]]:
    """Return what is done in a round: ours, and what the usual tools do instead."""
    files, lock, bundle, archive = work / "many", work / "many.lock", work / "many.tar.zst", work / "plain.tar.zst"
    home, out = work / f"home-{number}", work / f"out-{number}"
    own = BIN / "bundle"
    here = HERE.parent
    pack = command(sys.executable, "-m", "benchmarks.pack.pack_child", "pack", lock, files, bundle)
    unpack = f"mkdir {_q(out)} && zstd -dcq {_q(archive)} | tar -C {_q(out)} -xf - && sync -f {_q(out)}"
    launch = command(own, "run", "--bundle", "many", "--hf-home", home, "--isolate", "none", "--", "true")
    return {
        "pack": (
            Step(argv=pack, shown="pack", reads=(files,), cwd=here),
            _shell(f"tar -C {_q(files)} -cf - . | zstd -q -3 -T0 -f -o {_q(archive)}", "tar \\| zstd -3 -T0"),
        ),
        "install": (
            Step(argv=[own, "install", bundle, "--hf-home", home], shown="bundle install"),
            _shell(unpack, "zstd \\| tar, sync"),
        ),
        "verify": (
            Step(argv=[own, "verify", "many", "--hf-home", home], shown="bundle verify"),
            _shell(f"cd {_q(out)} && find . -type f -print0 | xargs -0 sha256sum", "sha256sum"),
        ),
        "launch": (Step(argv=launch, shown="bundle run -- true"), None),
        "remove": (
            Step(argv=[own, "remove", "many", "--hf-home", home], shown="bundle remove"),
            Step(argv=command("rm", "-r", out), shown="rm -r"),
        ),
    }


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _shell(line: str, shown: str) -> Step:
    return Step(argv=["bash", "-o", "pipefail", "-c", line], shown=shown)


def _measure(work: Path, rounds: int) -> dict[str, list[tuple[Run, Run | None]]]:
    taken: dict[str, list[tuple[Run, Run | None]]] = {}
    log = work / "bench.log"
    # Removed last of all: some file systems search long for the numbers of files that are gone since a moment ago.
    for action in ("pack", "install", "verify", "launch", "remove"):
        for number in range(rounds):
            say(f"round {number + 1}: {action}")
            ours, theirs = _steps(work, number)[action]
            taken.setdefault(action, []).append((measure(ours, log), measure(theirs, log) if theirs else None))
    return taken


def markdown(taken: dict[str, list[tuple[Run, Run | None]]], steps: dict[str, tuple[Step, Step | None]]) -> str:
    """Return the table."""
    lines = [
        "| | CPU | peak memory | beside it | CPU | ours over theirs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for action, runs in taken.items():
        ours, theirs = steps[action]
        peak = max(run.peak_bytes for run, _ in runs)
        verdict = "" if peak <= TARGET_BYTES else f", **not reached**: {size(TARGET_BYTES)}"
        cells = f"| {ours.shown} | {spread([run.cpu_seconds for run, _ in runs])} | {size(peak)}{verdict} "
        pairs = [(run.cpu_seconds, other.cpu_seconds) for run, other in runs if other]
        if theirs is None or not pairs:
            lines.append(f"{cells}| | | |")
            continue
        ratios = [own / other for own, other in pairs]
        reached = ""
        if action in TARGETS:
            word = "reached" if statistics.median(ratios) <= TARGETS[action] else "**not reached**"
            reached = f", {word}: {TARGETS[action]:g}"
        lines.append(
            f"{cells}| {theirs.shown} | {spread([other for _, other in pairs])} | {spread(ratios, '', 1)}{reached} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--files", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--file-bytes", type=click.IntRange(16), default=1000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "work", show_default="benchmarks/work")
@click.option("--write", is_flag=True, help="Write the table to benchmarks/README.md.")
def main(files: int, file_bytes: int, rounds: int, work: Path, write: bool) -> None:
    """Pack, install, verify, launch and remove a repo of many small files."""
    before = machine.load()
    with work_folder(work, files * _ROOM_BYTES * (rounds + 1)) as work:
        _write_files(work / "many", files, file_bytes)
        lock = [sys.executable, "-m", "benchmarks.pack.pack_child", "lock", "many", "bench/many"]
        measure(
            Step(argv=[*lock, work / "many", work / "many.lock"], shown="lock", cwd=HERE.parent),
            work / "bench.log",
        )
        taken = _measure(work, rounds)
        known = circumstances(work, before, f"{files:,} files of {size(file_bytes)}, {rounds} rounds")
    publish(MARKS, f"{known}\n\n{markdown(taken, _steps(work, 0))}", write=write)


if __name__ == "__main__":
    main()
