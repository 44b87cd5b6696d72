"""What work in a home costs, the more is installed in it: ``python -m benchmarks.home.run``.

Bundles of equal size, each with a repo of its own, are installed one after the other. Of each installation, and with
one and with all installed of `bundle run` on the first and of a quick verification of all, the CPU time is taken:
user and system, of the process and its children, which does not depend on how long the disk lets it wait. Each round
fills a home of its own. With `--write` the table replaces the one in README.md.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish, spread
from bundler.home.home import Home
from tests.support.bundles import locked_repo, tiny_bundle

MARKS = Marks("bench-home")
_BUNDLE = str(Path(sys.executable).with_name("bundle"))
# What an installation among many may cost more than one of the first.
TARGET_RATIO = 1.2

# What was measured -> seconds of CPU, one a round.
Readings = dict[str, list[float]]


def make_bundles(folder: Path, *, count: int, files: int) -> list[Path]:
    """Return `count` bundles `b0`, `b1`, …, each of one repo with `files` small files."""
    made = []
    for number in range(count):
        contents = {f"d{n % 10}/f{n}.txt": f"{number} {n}".encode() for n in range(files)}
        repo = locked_repo(f"org/m{number}", contents)
        made.append(tiny_bundle(folder / str(number), repo, contents=contents.values(), name=f"b{number}"))
    return made


def cpu_seconds(work: Callable[[], None]) -> float:
    """Return the CPU time that `work` takes in this process and its children."""

    def spent() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before = spent()
    work()
    return spent() - before


def measure(bundles: Sequence[Path], rounds: int, work: Path) -> Readings:
    """Return the readings: `install N`, and `run N` and `verify N` with N bundles installed, for the first and all."""
    readings: Readings = {}
    for number in range(rounds):
        for what, seconds in _fill(work / f"home-{number}", bundles):
            readings.setdefault(what, []).append(seconds)
    return readings


def _fill(home: Path, bundles: Sequence[Path]) -> Iterator[tuple[str, float]]:
    options = ("--hf-home", home, "--bundle", "b0", "--quick", "--isolate", "none")
    for installed, bundle in enumerate(bundles, start=1):
        yield f"install {installed}", cpu_seconds(partial(run_bundle, "install", bundle, "--hf-home", home))
        if installed in (1, len(bundles)):
            yield f"run {installed}", cpu_seconds(partial(run_bundle, "run", *options, "--", "true"))
            yield f"verify {installed}", cpu_seconds(partial(_verify_all, home))


def run_bundle(*words: object) -> None:
    """Run the command; end this program if it fails."""
    done = subprocess.run([_BUNDLE, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bundle {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr}")


def _verify_all(home: Path) -> None:
    for bundle in Home(home).bundles():
        bundle.verify(quick=True).raise_if_failed()


def markdown(readings: Readings, count: int) -> str:
    """Return the table: medians of CPU seconds, and in brackets the least and the largest."""
    rows = [
        ("`bundle install`, the second and the last", "install 2", f"install {count}", TARGET_RATIO),
        ("`bundle run --bundle b0`, with one installed and with all", "run 1", f"run {count}", TARGET_RATIO),
        ("all verified by names and sizes, one and all", "verify 1", f"verify {count}", TARGET_RATIO * count),
    ]
    lines = ["| | few | many | ratio | |", "| --- | --- | --- | --- | --- |"]
    for title, few, many, target in rows:
        ratio = statistics.median(readings[many]) / statistics.median(readings[few])
        verdict = "reached" if ratio <= target else "**not reached**"
        lines.append(
            f"| {title} | {spread(readings[few])} | {spread(readings[many])} | {ratio:.2f} | {verdict}: {target:g} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Measure what work in a home costs, the more is installed in it.")
    parser.add_argument("--bundles", type=int, default=10)
    parser.add_argument("--files", type=int, default=1000, help="in each bundle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    options = parser.parse_args()
    machine.keep_bytecode()
    with tempfile.TemporaryDirectory(prefix="bench-home-") as folder:
        work = Path(folder)
        bundles = make_bundles(work / "bundles", count=options.bundles, files=options.files)
        before = machine.load()
        readings = measure(bundles, options.rounds, work)
        what = f"{options.bundles} bundles of {options.files:,} files, {options.rounds} rounds, seconds of CPU"
        known = circumstances(work, before, what)
    publish(MARKS, f"{known}\n\n{markdown(readings, options.bundles)}", write=options.write)


if __name__ == "__main__":
    main()
