"""The whole way from a bundle file to a program that has its weights: what `make bench-way` runs.

    python -m benchmarks.pack.whole_way [--write] [--shape 1b] [--rounds N]
    python -m benchmarks.pack.whole_way --report-only

What a user waits for is the sum: installing, and the first launch, verified, of a program that loads every tensor.
Beside it stands what people do without this project: `zstd | tar`, `openssl dgst -sha256`, the same program; and `cp`,
which verifies nothing. Each way begins with its archive in the page cache (warm) or on the disk alone (cold), and goes
on with whatever it has left there itself. Everything is made in --work, which is removed at the end.
"""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.measure import Run, Step, command, evict, measure, remove, size_of, warm
from benchmarks.lib.section import circumstances, publish, spread
from benchmarks.lib.work import work_folder
from benchmarks.pack.generated import generate_weights, pack_weights
from benchmarks.pack.tools import BIN
from bundler.console.output import say
from bundler.text.wording import size

HERE = Path(__file__).parents[1]
# Each size has a table of its own.
MARKS = {shape: Marks(f"bench-way{more}") for shape, more in (("1b", ""), ("3b", "-3b"), ("8b", "-8b"))}
# How many times as fast as tar, openssl and the program the whole way is to be, of 2 GB and of more.
TARGET, TARGET_OF_MORE = 1.3, 1.5
_ROOM_BYTES = {"tiny": 2_000_000_000, "1b": 12_000_000_000, "3b": 30_000_000_000, "8b": 60_000_000_000}
_COMMIT = "be" * 20


@dataclass(frozen=True)
class Way:
    """One way to carry files.

    Attributes:
        name: For people.
        source: What it begins with.
        out: What it makes.
        steps: What is done, in order.
    """

    name: str
    source: Path
    out: Path
    steps: Sequence[Step]


def list_ways(work: Path) -> list[Way]:
    """Return the ways; ours is the first, and what it is compared with the second."""
    files, bundle, archive = work / "files", work / "way.tar.zst", work / "plain.tar.zst"
    home, out, copy = work / "home", work / "out", work / "copy"
    load = command(sys.executable, "-m", "benchmarks.pack.load_child")
    snapshot = home / "hub" / "models--bench--way" / "snapshots" / _COMMIT
    run = command(BIN / "bundle", "run", "--bundle", "way", "--hf-home", home, "--isolate", "none", "--")
    here = HERE.parent
    unpack = f"mkdir {_q(out)} && zstd -dcq {_q(archive)} | tar -C {_q(out)} -xf -"
    check = f"openssl dgst -sha256 {_q(out)}/*.safetensors"
    return [
        Way(
            "`bundle install`, `bundle run -- load`",
            bundle,
            home,
            [
                Step(argv=command(BIN / "bundle", "install", bundle, "--hf-home", home), shown="bundle install"),
                Step(argv=[*run, *load, snapshot], shown="bundle run -- load", cwd=here),
            ],
        ),
        Way(
            "`zstd \\| tar`, `openssl dgst -sha256`, load",
            archive,
            out,
            [
                Step(argv=["bash", "-o", "pipefail", "-c", unpack], shown="zstd | tar"),
                Step(argv=["bash", "-c", check], shown="openssl dgst"),
                Step(argv=[*load, out], shown="load", cwd=here),
            ],
        ),
        Way(
            "`cp`, load (verifies nothing)",
            files,
            copy,
            [
                Step(argv=command("cp", "-r", "--reflink=never", files, copy), shown="cp"),
                Step(argv=[*load, copy], shown="load", cwd=here),
            ],
        ),
    ]


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _prepare(work: Path, shape: str) -> None:
    """Make the files, and both archives of them."""
    files, lock = work / "files", work / "way.lock"
    generate_weights(shape, "bench/way", files, lock)
    pack_weights(lock, files, work / "way.tar.zst")
    line = f"tar -C {_q(files)} -cf - . | zstd -3 -T0 -q -o {_q(work / 'plain.tar.zst')}"
    subprocess.run(command("bash", "-o", "pipefail", "-c", line), check=True)


def take(way: Way, log: Path, *, is_cold: bool) -> list[Run]:
    """Go one way once; the files that it makes are removed."""
    (evict if is_cold else warm)(way.source)
    runs = [measure(step, log) for step in way.steps]
    remove(way.out)
    return runs


def markdown(taken: dict[tuple[str, bool], list[list[Run]]], target: float = TARGET) -> str:
    """Return the table: of each way, cold or warm, the runs of each step in each round."""
    lines = [
        "| | archive | each step, wall | sum, wall | sum, CPU | read from disk | this over ours: wall; CPU |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    sums = {key: [_add(runs) for runs in rounds] for key, rounds in taken.items()}
    ours, beside = list(dict.fromkeys(name for name, _ in taken))[:2]
    for (name, is_cold), rounds in taken.items():
        steps = "; ".join(f"{statistics.median(walls):.2f} s" for walls in _list_walls(rounds))
        wall, cpu, read = zip(*sums[name, is_cold], strict=True)
        begun = "cold" if is_cold else "warm"
        cells = f"| {name} | {begun} | {steps} | {spread(wall)} | {spread(cpu)} | {size(max(read))} |"
        pairs = list(zip(sums[name, is_cold], sums[ours, is_cold], strict=True))
        ratios = [[theirs[part] / own[part] for theirs, own in pairs] for part in (0, 1)]
        verdict = ""
        if name == beside:
            verdict = f", {'reached' if statistics.median(ratios[0]) >= target else '**not reached**'}: {target:g}"
        compared = "" if name == ours else f" {spread(ratios[0], '')}{verdict}; {spread(ratios[1], '')}"
        lines.append(f"{cells}{compared} |")
    return "\n".join(lines)


def summarize(tables: Sequence[str]) -> str:
    """Return the table of the front page: the sums of each way, of all sizes that were measured.

    Args:
        tables: What stands between the marks of each size; empty where nothing was measured.
    """
    head: list[str] = []
    rows: list[str] = []
    for table in filter(None, tables):
        total = table.split(" of generated")[0].rpartition(". ")[2]
        lines = [line.strip("| ").split(" | ") for line in table.splitlines()[4:]]
        head = head or list(dict.fromkeys(cells[0] for cells in lines))
        for begun, words in (("cold", "the disk"), ("warm", "memory")):
            sums = [cells[3].split("**")[1] for cells in lines if cells[1] == begun]
            rows.append(f"| {total} | {words} | {' | '.join(sums)} |")
    return "\n".join(
        [f"| weights | archive in | {' | '.join(head)} |", "| --- | --- |" + " --- |" * len(head), *rows]
    )


def write_front_page() -> None:
    """Write the sums to the front page."""
    page = HERE / "README.md"
    Marks("bench-way").write(HERE.parent / "README.md", summarize([marks.read(page) for marks in MARKS.values()]))


def _list_walls(rounds: Sequence[Sequence[Run]]) -> list[list[float]]:
    return [[run.wall_seconds for run in step] for step in zip(*rounds, strict=True)]


def _add(runs: Sequence[Run]) -> tuple[float, float, int]:
    wall, cpu = sum(run.wall_seconds for run in runs), sum(run.cpu_seconds for run in runs)
    return wall, cpu, sum(run.read_bytes for run in runs)


@click.command()
@click.option(
    "--shape", type=click.Choice([*_ROOM_BYTES]), default="1b", show_default=True, help="2.2, 7.2 or 16 GB."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "work", show_default="benchmarks/work")
@click.option("--write", is_flag=True, help="Write the table to benchmarks/README.md, and the sums to README.md.")
@click.option("--report-only", is_flag=True, help="Measure nothing: write the sums again.")
def main(shape: str, rounds: int, work: Path, write: bool, report_only: bool) -> None:
    """Go from a bundle file to loaded weights, beside what people do with tar."""
    if report_only:
        write_front_page()
        return
    before = machine.load()
    taken: dict[tuple[str, bool], list[list[Run]]] = {}
    with work_folder(work, _ROOM_BYTES[shape]) as work:
        _prepare(work, shape)
        total = size_of(work / "files")
        for number in range(rounds):
            for is_cold in (True, False):
                for way in list_ways(work):
                    say(f"round {number + 1}, {'cold' if is_cold else 'warm'}: {way.name}")
                    taken.setdefault((way.name, is_cold), []).append(
                        take(way, work / "bench.log", is_cold=is_cold)
                    )
        known = circumstances(work, before, f"{size(total)} of generated bf16 weights, {rounds} rounds")
    target = TARGET if shape in ("tiny", "1b") else TARGET_OF_MORE
    publish(MARKS.get(shape, MARKS["1b"]), f"{known}\n\n{markdown(taken, target)}", write=write)
    if write:
        write_front_page()


if __name__ == "__main__":
    main()
