"""How much of packing and installing is done in order, and what more cores would gain: what `make bench-cores` runs.

    python -m benchmarks.cores.run [--write] [--shape NAME] [--jobs N] [--rounds N]

In order is what only one thread can do at a time, whichever it is. Clocks at that work give its CPU time for each
gigabyte (`benchmarks.cores.child`); with the CPU time of all threads they say how fast more cores would be, were
they as fast as these. Nothing is said about disks. Everything is made in --work, which is removed at the end.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.measure import command, remove, size_of
from benchmarks.lib.section import circumstances, publish
from benchmarks.lib.work import work_folder
from benchmarks.pack.generated import generate_weights
from bundler.console.output import say
from bundler.text.wording import size

HERE = Path(__file__).parents[1]
MARKS = Marks("bench-cores")
# Of all CPU time, what one thread does for the whole bundle.
TARGET_SHARE = 0.05
TARGET_CORES = 16
TARGET_RATE = 8.0
# What a size takes on the disk: the files, their bundle, and what is installed.
_ROOM_FOR = {"tiny": 1_000_000_000, "1b": 8_000_000_000}

Seconds = dict[str, float]
# For people: which work is in order, and within what: the bundle, or one file of several that take turns.
_KINDS = {
    "turns": "taking the next chunk",
    "writing": "writing the bundle",
    "blake3": "BLAKE3 of the content",
    "sha256": "SHA-256 of the content",
}
_FOR_ALL = {"pack": ("turns", "writing", "blake3"), "install": ("turns",)}
_FOR_EACH_FILE = {"pack": (), "install": ("blake3", "sha256")}


def model_rate(action: str, seconds: Seconds, cores: int) -> float:
    """Return the gigabytes a second that so many cores would do.

    Args:
        action: "pack" or "install".
        seconds: CPU seconds for a gigabyte.
        cores: How many; half as many files take turns.
    """
    least = [seconds["all"] / cores]
    least += [seconds.get(kind, 0.0) for kind in _FOR_ALL[action]]
    least += [seconds.get(kind, 0.0) / (cores // 2) for kind in _FOR_EACH_FILE[action]]
    return 1 / max(least)


def _measure(work: Path, jobs: int) -> dict[str, Seconds]:
    """Pack and install once; return CPU seconds for a gigabyte."""
    lock, files, bundle, home = work / "w.lock", work / "files", work / "w.tar.zst", work / "home"
    child = command(sys.executable, "-m", "benchmarks.cores.child")
    found: dict[str, Seconds] = {}
    gigabytes = size_of(files) / 1e9
    for action, argv in (("pack", [lock, files, bundle]), ("install", [bundle, home])):
        say(action)
        done = subprocess.run(
            [*child, action, *argv, str(jobs)], cwd=HERE.parent, check=True, stdout=subprocess.PIPE
        )
        found[action] = {kind: value / gigabytes for kind, value in json.loads(done.stdout).items()}
        check_clocks(action, found[action])
    remove(home)
    remove(bundle)
    return found


def check_clocks(action: str, seconds: Seconds) -> None:
    """Check that each clock was asked: one stands still where the code that it stood at is no longer called.

    Raises:
        ClickException: One was not.
    """
    for kind in ("all", *_FOR_ALL[action], *_FOR_EACH_FILE[action]):
        if not seconds.get(kind):
            raise click.ClickException(
                f"{action}: expected a time for {kind!r}, found none: see where child.py puts its clocks"
            )


def markdown(rounds: Sequence[dict[str, Seconds]]) -> str:
    """Return the table; figures are medians of the rounds."""
    lines = ["| | pack | install |", "| --- | --- | --- |"]
    median = {
        action: {
            kind: statistics.median(found[action].get(kind, 0.0) for found in rounds) for kind in ("all", *_KINDS)
        }
        for action in ("pack", "install")
    }

    def row(title: str, cells: dict[str, str]) -> None:
        lines.append(f"| {title} | {cells.get('pack', '')} | {cells.get('install', '')} |")

    row("CPU of all threads, s/GB", {action: f"**{found['all']:.2f}**" for action, found in median.items()})
    for kind, words in _KINDS.items():
        cells = {}
        for action, found in median.items():
            share = f"{found[kind]:.3f}, {100 * found[kind] / found['all']:.1f} %"
            if kind in _FOR_ALL[action]:
                cells[action] = f"{share}, of the bundle"
            elif kind in _FOR_EACH_FILE[action]:
                cells[action] = f"{share}, of each file"
        row(f"in order: {words}", cells)
    shares = {
        action: max(found[kind] for kind in _FOR_ALL[action]) / found["all"] for action, found in median.items()
    }
    row(
        "the most that one thread at a time does for all bytes",
        {
            action: f"**{100 * share:.1f} %**{_judge(share <= TARGET_SHARE, '5 %')}"
            for action, share in shares.items()
        },
    )
    for cores in (2, 8, TARGET_CORES, 64):
        rates = {action: model_rate(action, found, cores) for action, found in median.items()}
        row(
            f"model: {cores} cores",
            {
                action: f"{rate:.1f} GB/s"
                + (_judge(rate >= TARGET_RATE, f"{TARGET_RATE:g}") if cores == TARGET_CORES else "")
                for action, rate in rates.items()
            },
        )
    return "\n".join(lines)


def _judge(is_reached: bool, goal: str) -> str:
    return f", {'reached' if is_reached else '**not reached**'}: {goal}"


@click.command()
@click.option("--shape", type=click.Choice(list(_ROOM_FOR)), default="1b", show_default=True)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Threads.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "work", show_default="benchmarks/work")
@click.option("--write", is_flag=True, help="Write the table to benchmarks/README.md.")
def main(shape: str, jobs: int, rounds: int, work: Path, write: bool) -> None:
    """Pack and install generated weights, with clocks at what is done in order."""
    before = machine.load()
    with work_folder(work, _ROOM_FOR[shape]) as work:
        generate_weights(shape, "bench/w", work / "files", work / "w.lock")
        found = [_measure(work, jobs) for _ in range(rounds)]
        what = f"{size(size_of(work / 'files'))} of generated bf16 weights, {jobs} threads, {rounds} rounds"
        known = circumstances(work, before, what)
    publish(MARKS, f"{known}\n\n{markdown(found)}", write=write)


if __name__ == "__main__":
    main()
