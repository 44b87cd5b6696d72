"""`make bench-train`: training and decoding beside vanilla Llama and another implementation of Infini-attention.

Each round runs every job once, one after the other, each in a process of its own on one thread (`child.py`); a
figure is the median of the rounds, and a ratio is taken within a round, since a machine that slows down does so for
all. Each round begins with another job. What the figures say is `report.py`'s affair.

The recall task, which takes longer than all this, is `infini-llama recall`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.lib import machine
from benchmarks.train import report
from benchmarks.train.report import (
    COMPILED,
    DECODE_LENGTHS,
    MEMORY_LENGTHS,
    NAMES,
    PRODUCT,
    SPEED_LENGTHS,
    Conditions,
    Readings,
)
from bundler.files.atomic import atomic_write

_HERE = Path(__file__).parents[1]
_DECISION = _HERE.parent / "docs/decisions/0005-truncated-back-propagation.md"
_CHILD = Path(__file__).with_name("child.py")
_PEER = "infini-transformer-pytorch"

# (action, variant, lengths): one process
Job = tuple[str, str, tuple[int, ...]]


def jobs() -> list[Job]:
    """Return what one round runs. What grows with the square of the length stops where it takes minutes."""
    listed: list[Job] = [("train", variant, (length,)) for length in SPEED_LENGTHS for variant in NAMES]
    listed += [("train", "ours", (length,)) for length in MEMORY_LENGTHS]
    listed += [(action, variant, (size,)) for action, variant, size in (COMPILED, PRODUCT)]
    return [*listed, ("decode", "llama", DECODE_LENGTHS[:-1]), ("decode", "ours", DECODE_LENGTHS)]


def run(job: Job, peer_python: Path) -> list[dict[str, float]]:
    """Measure a job in a process of its own; return a reading for each of its lengths."""
    action, variant, lengths = job
    python = str(peer_python) if variant == "lucidrains" else sys.executable
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_HERE.parent), "HF_HUB_OFFLINE": "1"}
    command = [python, str(_CHILD), action, variant, *map(str, lengths)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    readings: list[dict[str, float]] = json.loads(done.stdout)
    return readings


def measure(rounds: int, peer_python: Path) -> Readings:
    """Run all rounds, and say on stderr what each job gave."""
    todo = jobs()
    readings: Readings = {}
    for number in range(rounds):
        first = number * len(todo) // rounds
        for job in todo[first:] + todo[:first]:
            action, variant, lengths = job
            for length, reading in zip(lengths, run(job, peer_python), strict=True):
                readings.setdefault((action, variant, length), []).append(reading)
                shown = ", ".join(f"{name} {value:,.1f}" for name, value in reading.items())
                sys.stderr.write(f"round {number + 1}/{rounds}: {action} {variant} {length}: {shown}\n")
    return readings


def versions(python: Path, *packages: str) -> list[str]:
    """Return name and version of packages of another environment."""
    code = "import importlib.metadata as m, sys; print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep='\\n')"
    done = subprocess.run([python, "-c", code, *packages], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()


def main() -> None:
    """Run the rounds, and print or write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True, help=f"Python of an environment with {_PEER}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="Into the documents and train.svg; else to stdout.")
    options = parser.parse_args()
    before = machine.load()
    readings = measure(options.rounds, options.peer_python)
    conditions = Conditions(
        machine=machine.describe(_HERE),
        ours=versions(Path(sys.executable), "torch", "transformers"),
        peers=versions(options.peer_python, "torch", _PEER),
        rounds=options.rounds,
        load_before=before,
        load_after=machine.load(),
    )
    section = report.section(readings, conditions)
    if not options.write:
        sys.stdout.write(section + "\n")
        return
    atomic_write(_HERE / "train.svg", report.plot(readings).encode())
    report.MARKS.write(_HERE / "README.md", section)
    report.MARKS.write(_DECISION, report.decision(readings))


if __name__ == "__main__":
    main()
