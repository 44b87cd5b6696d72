"""`bundle fetch` beside `hf download`, over a slow line: ``python -m benchmarks.network.fetch``.

Both run whole, from an empty cache, one after the other in each round: `hf download` into its cache, and `bundle fetch`
through proof and packing to a finished bundle, which is more. Both go through `benchmarks.network.line` to
`benchmarks.network.distant_hub`; there is no Xet storage. With `--write` the table replaces the one in README.md.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import random
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bundler
from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.measure import Run, Step, command, measure, remove
from benchmarks.lib.section import circumstances, publish, spread
from benchmarks.network.distant_hub import REPO_ID

MARKS = Marks("bench-fetch")
_BIN = Path(sys.executable).parent
TARGET_RATIO = 1.5
_MANIFEST = f"version: 1\nname: fetched\nmodels:\n  - repo_id: {REPO_ID}\n    allow_patterns: ['*']\n"


@dataclass(frozen=True)
class Case:
    """Files to fetch.

    Attributes:
        title: What they are, for the table.
        count: How many.
        size_bytes: Size of each.
    """

    title: str
    count: int
    size_bytes: int


CASES = (
    Case("1 × 1 GB", 1, 1_000_000_000),
    Case("200 × 10 MB", 200, 10_000_000),
    Case("5,000 × 10 kB", 5000, 10_000),
)
# Of a case: runs of `hf download` and of `bundle fetch`, one of each a round.
Readings = tuple[list[Run], list[Run]]


def write_files(folder: Path, case: Case) -> None:
    """Write weights of random bytes, which no compression makes smaller."""
    dice = random.Random(case.title)  # noqa: S311 - they protect nothing
    for number in range(case.count):
        path = folder / f"part{number // 1000}" / f"{number:04}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        tensor = {"dtype": "U8", "shape": [case.size_bytes], "data_offsets": [0, case.size_bytes]}
        header = json.dumps({f"t{number}": tensor}).encode()
        with path.open("wb") as stream:
            stream.write(struct.pack("<Q", len(header)) + header)
            left = case.size_bytes
            while left:
                left -= stream.write(dice.randbytes(min(left, 1 << 24)))


@contextlib.contextmanager
def distant_hub(folder: Path, *, round_trip_ms: float, rate_mb: float) -> Iterator[str]:
    """Serve `folder` behind the line; yields the address."""
    with contextlib.ExitStack() as running:

        def start(module: str, *options: object) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.network.{module}", *map(str, options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            running.callback(process.wait)
            running.callback(process.kill)
            return process

        def first_line(process: subprocess.Popen[str]) -> str:
            assert process.stdout is not None
            return process.stdout.readline()

        hub = start("distant_hub", folder)
        slow = ("--round-trip-ms", round_trip_ms, "--rate-mb", rate_mb)
        ports = [int(first_line(start("line", port, *slow))) for port in first_line(hub).split()]
        assert hub.stdin is not None
        hub.stdin.write(f"http://127.0.0.1:{ports[1]}\n")
        hub.stdin.flush()
        yield f"http://127.0.0.1:{ports[0]}"


def measure_case(case: Case, rounds: int, work: Path, *, round_trip_ms: float, rate_mb: float) -> Readings:
    """Run both commands `rounds` times, in turns."""
    files, theirs, ours = work / "files", work / "hf", work / "bundle"
    write_files(files, case)
    ours.mkdir()
    manifest = work / "fetched.yaml"
    manifest.write_text(_MANIFEST, encoding="utf-8")
    readings: Readings = ([], [])
    with distant_hub(files, round_trip_ms=round_trip_ms, rate_mb=rate_mb) as endpoint:
        env = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        download = Step(
            argv=command(_BIN / "hf", "download", REPO_ID),
            shown=f"hf download {REPO_ID}",
            reads=(files,),
            writes=(theirs,),
            env={**env, "HF_HOME": str(theirs)},
        )
        fetch = Step(
            argv=command(
                _BIN / "bundle", "fetch", manifest, "-o", ours / "b.tar.zst", "--cache-dir", ours / "staging"
            ),
            shown="bundle fetch MANIFEST",
            reads=(files,),
            writes=(ours / "staging", ours / "b.tar.zst", manifest.with_suffix(".lock")),
            kept=(ours / "b.tar.zst",),
            env={**env, "HF_HOME": str(work / "empty")},
        )
        for number in range(rounds):
            for kind, step in ((0, download), (1, fetch))[:: 1 if number % 2 == 0 else -1]:
                readings[kind].append(measure(step, work / "log"))
                sys.stderr.write(f"{case.title}: {step.shown}: {readings[kind][-1].wall_seconds:.1f} s\n")
                for path in step.writes:
                    remove(path)
    remove(files)
    remove(ours)
    return readings


def markdown(readings: Mapping[str, Readings]) -> str:
    """Return the table."""
    lines = [
        "| files | `hf download` | `bundle fetch` | faster by | CPU of both | peak of ours | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for title, (theirs, ours) in readings.items():
        ratios = [their.wall_seconds / our.wall_seconds for their, our in zip(theirs, ours, strict=True)]
        reached = "reached" if statistics.median(ratios) >= TARGET_RATIO else "**not reached**"
        cells = [
            title,
            *(spread([run.wall_seconds for run in runs], digits=1) for runs in (theirs, ours)),
            spread(ratios, " ×", 1),
            " and ".join(f"{statistics.median(run.cpu_seconds for run in runs):.1f} s" for runs in (theirs, ours)),
            f"{max(run.peak_bytes for run in ours) / 1e6:.0f} MB",
            f"{reached}: {TARGET_RATIO:g} ×",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _scaled(case: Case, divisor: int) -> Case:
    """Return a case for trying: fewer files, or of one a smaller one."""
    if case.count == 1:
        return Case(f"{case.title} / {divisor}", 1, case.size_bytes // divisor)
    return Case(f"{case.title} / {divisor}", max(1, case.count // divisor), case.size_bytes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Measure fetching over a line that is slow for each connection.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--round-trip-ms", type=float, default=50.0)
    parser.add_argument("--rate-mb", type=float, default=20.0, help="MB/s of each connection")
    parser.add_argument("--divisor", type=int, default=1, help="for trying: so much less to fetch")
    parser.add_argument("--case", type=int, action="append", choices=range(len(CASES)), help="only these")
    parser.add_argument("--work", type=Path, help="a folder with 6 GB of room  [default: a temporary one]")
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    options = parser.parse_args(arguments)
    readings: dict[str, Readings] = {}
    # An installed program has its bytecode, as the other has.
    compileall.compile_dir(Path(bundler.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory(prefix="bench-fetch-", dir=options.work) as folder:
        work = Path(folder)
        machine.check_room(work, 7_000_000_000 // options.divisor)
        before = machine.load()
        for number in options.case or range(len(CASES)):
            case = CASES[number] if options.divisor == 1 else _scaled(CASES[number], options.divisor)
            readings[case.title] = measure_case(
                case, options.rounds, work, round_trip_ms=options.round_trip_ms, rate_mb=options.rate_mb
            )
        line = f"{options.round_trip_ms:g} ms a round trip, {options.rate_mb:g} MB/s a connection"
        known = circumstances(work, before, f"{options.rounds} rounds, {line}")
    publish(MARKS, f"{known}\n\n{markdown(readings)}", write=options.write)


if __name__ == "__main__":
    main()
