"""What `bundle run` adds to the start of a program: ``python -m benchmarks.launch.run``.

From the start of the process to the first line that `python -c "print()"` writes, plain and through `bundle run` with
each isolation that this machine offers, verification of a small bundle included. Each round runs every kind once, and
begins with another; overheads are differences within a round, so that a machine that slows down does so for all. Two
rounds before the first one warm the page cache. With `--write` the table replaces the one in README.md, and its medians
those in the decision about isolation.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish, spread
from bundler.errors import OfflineError
from bundler.home.installation.install import install
from bundler.offline.kernel.isolation import REQUESTED, choose
from tests.support.bundles import locked_repo, tiny_bundle

MARKS = Marks("bench-launch")
_BUNDLE = Path(sys.executable).with_name("bundle")
_PLAIN = [sys.executable, "-c", "print()"]
_FILES = {"config.json": b'{"model_type": "gpt2"}', "model.bin": bytes(1 << 20)}
_WARM_UP_ROUNDS = 2
TARGET_SECONDS = 0.15
_DECISION = Path(__file__).parents[2] / "docs/decisions/0003-isolation-by-the-kernel.md"


def commands(hf_home: Path, plain: list[str] = _PLAIN) -> dict[str, list[str]]:
    """Return `plain`, and then launches of it by kind; kinds that this machine refuses are said and left out."""
    found = {"": plain}
    for kind in REQUESTED:
        try:
            choose(kind)
        except OfflineError as error:
            sys.stderr.write(f"left out: {error.message}\n")
        else:
            found[kind] = [str(_BUNDLE), "run", "--hf-home", str(hf_home), "--isolate", kind, "--", *plain]
    return found


def first_line_seconds(argv: list[str]) -> float:
    """Run a command to its end, and return how long its first line took."""
    begun = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begun
        _, said = process.communicate()
    if line != b"\n" or process.returncode:
        sys.exit(f"{' '.join(argv)} ended with {process.returncode}:\n{said.decode(errors='replace')}")
    return seconds


def measure(measured: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each kind, round by round."""
    seconds: dict[str, list[float]] = {kind: [] for kind in measured}
    kinds = list(measured)
    for number in range(-_WARM_UP_ROUNDS, rounds):
        first = number % len(kinds)
        for kind in kinds[first:] + kinds[:first]:
            taken = first_line_seconds(measured[kind])
            if number >= 0:
                seconds[kind].append(taken)
    return seconds


def markdown(seconds: dict[str, list[float]]) -> str:
    """Return the table: medians, and in brackets the least and the largest."""
    lines = ["| launch | first line after | more than plain | |", "| --- | --- | --- | --- |"]
    lines.append(f"| `python -c 'print()'` | {spread(seconds[''])} | | |")
    for kind in filter(None, seconds):
        more = _differences(seconds, kind)
        verdict = "reached" if statistics.median(more) < TARGET_SECONDS else "**not reached**"
        lines.append(f"| `bundle run --isolate {kind}` | {spread(seconds[kind])} | {spread(more)} | {verdict} |")
    return "\n".join(lines)


def sentence(seconds: dict[str, list[float]]) -> str:
    """Return what each kind adds, for the decision page."""
    added = ", ".join(
        f"{statistics.median(_differences(seconds, kind)):.2f} s for `{kind}`"
        for kind in seconds
        if kind not in ("", "auto", "none")
    )
    return (
        f"`make bench-launch` measures what each kind adds to a launch, the verification of 1 MiB included:\n{added}. "
        f"The goal is less than {TARGET_SECONDS} s."
    )


def _differences(seconds: dict[str, list[float]], kind: str) -> list[float]:
    return [taken - plain for taken, plain in zip(seconds[kind], seconds[""], strict=True)]


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Measure what `bundle run` adds to the start of a program.")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--write", action="store_true", help="replace the tables in the documents")
    options = parser.parse_args()
    machine.keep_bytecode()
    with tempfile.TemporaryDirectory(prefix="bench-launch-") as folder:
        work = Path(folder)
        bundle = tiny_bundle(work, locked_repo("org/small", _FILES), contents=_FILES.values())
        install(bundle, work / "hf")
        before = machine.load()
        seconds = measure(commands(work / "hf"), options.rounds)
        what = f"{options.rounds} rounds; target: less than {TARGET_SECONDS} s more than plain"
        known = circumstances(work, before, what)
    publish(MARKS, f"{known}\n\n{markdown(seconds)}", write=options.write)
    if options.write:
        MARKS.write(_DECISION, sentence(seconds))


if __name__ == "__main__":
    main()
