"""How fast parity of a bundle is made, and what is lost is rebuilt from it: what `make bench-parity` runs.

    python -m benchmarks.parity.run [--write] [--shape 1b] [--rounds N]

Parity of a tenth; then a tenth of the bundle's chunks, chosen anew in each round, lose their first bytes. `bundle
install` rebuilds them on its way, and `bundle repair` in the file; what that leaves is compared byte for byte. The
whole bundle is installed too, so that what rebuilding adds can be told. Everything is made in --work, which is removed
at the end.
"""

from __future__ import annotations

import filecmp
import random
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import click

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.measure import Run, Step, command, measure, remove, size_of
from benchmarks.lib.section import circumstances, publish, spread
from benchmarks.lib.work import work_folder
from benchmarks.pack.generated import generate_weights, pack_weights
from benchmarks.pack.tools import BIN
from bundler.console.output import say
from bundler.format.reader import BundleReader
from bundler.text.wording import size

HERE = Path(__file__).parents[1]
MARKS = Marks("bench-parity")
GIGABYTES_PER_CPU_SECOND = 0.3
SHARE = 0.1
_LOST_BYTES = 1000
_TIMES = ("wall_seconds", "cpu_seconds")
_ROOM_BYTES = {"tiny": 100_000_000, "1b": 9_000_000_000}


def damage(bundle: Path, share: float, seed: int) -> int:
    """Overwrite the first bytes of a share of a bundle's chunks; return of how many."""
    with BundleReader(bundle) as reader:
        index, starts = reader.index, reader.index.stored_starts()
    chance = random.Random(seed)  # noqa: S311 -- which ones
    lost = chance.sample(range(len(index.chunks)), int(share * len(index.chunks)))
    with bundle.open("r+b") as stream:
        for number in lost:
            stream.seek(starts[number])
            stream.write(chance.randbytes(min(_LOST_BYTES, index.chunks[number].stored_bytes)))
    return len(lost)


def _measure_round(bundle: Path, seed: int, found: dict[str, list[Run]]) -> None:
    """Make parity, damage a copy of the bundle and repair it; what is made is removed."""
    copy = bundle.with_name("copy.tar.zst")
    parity = copy.with_name(f"{copy.name}.parity")
    log = bundle.with_name("bench.log")
    shutil.copyfile(bundle, copy)
    say("  parity")
    make = Step(
        argv=command(BIN / "bundle", "parity", copy, "--share", f"{SHARE:.0%}"),
        shown="bundle parity",
        writes=(parity,),
    )
    found.setdefault("parity", []).append(measure(make, log))
    say("  install")
    found.setdefault("install", []).append(_install(copy, log))
    lost = damage(copy, SHARE, seed)
    say(f"  install and repair of {lost} chunks")
    found.setdefault("damaged", []).append(_install(copy, log, parity))
    mend = Step(argv=command(BIN / "bundle", "repair", copy), shown="bundle repair", reads=(copy, parity))
    found.setdefault("repair", []).append(measure(mend, log))
    if not filecmp.cmp(copy, bundle, shallow=False):
        raise click.ClickException("what was rebuilt is another bundle")
    copy.unlink()
    parity.unlink()


def _install(bundle: Path, log: Path, *more: Path) -> Run:
    home = bundle.with_name("home")
    step = Step(
        argv=command(BIN / "bundle", "install", bundle, "--hf-home", home),
        shown="bundle install",
        reads=(bundle, *more),
    )
    run = measure(step, log)
    remove(home)
    return run


def markdown(found: dict[str, list[Run]], bundle_bytes: int) -> str:
    """Return the table.

    Args:
        found: What was measured, by what it is.
        bundle_bytes: Length of the bundle.
    """
    lines = [
        f"| | wall | CPU | of the bundle for each CPU second, goal {GIGABYTES_PER_CPU_SECOND:g} GB | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    rebuilding = [
        replace(damaged, **{field: getattr(damaged, field) - getattr(whole, field) for field in _TIMES})
        for damaged, whole in zip(found["damaged"], found["install"], strict=True)
    ]
    rows = (
        ("`bundle parity`", found["parity"], True),
        ("`bundle install`", found["install"], False),
        ("`bundle install`, of the damaged bundle", found["damaged"], False),
        ("what rebuilding adds to it", rebuilding, True),
        ("`bundle repair`", found["repair"], True),
    )
    for title, runs, is_judged in rows:
        judged = ""
        if is_judged:
            rates = [bundle_bytes / 1e9 / run.cpu_seconds for run in runs]
            verdict = "reached" if statistics.median(rates) >= GIGABYTES_PER_CPU_SECOND else "**not reached**"
            judged = f"{spread(rates, ' GB')}, {verdict}"
        lines.append(
            f"| {title} | {spread([run.wall_seconds for run in runs])} | "
            f"{spread([run.cpu_seconds for run in runs])} | {judged} | {size(max(run.peak_bytes for run in runs))} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--shape", type=click.Choice(list(_ROOM_BYTES)), default="1b", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "work", show_default="benchmarks/work")
@click.option("--write", is_flag=True, help="Write the table to benchmarks/README.md.")
def main(shape: str, rounds: int, work: Path, write: bool) -> None:
    """Make parity of a bundle of generated weights, and rebuild what is lost of it."""
    before = machine.load()
    found: dict[str, list[Run]] = {}
    with work_folder(work, _ROOM_BYTES[shape]) as work:
        files, bundle, lock = work / "files", work / "w.tar.zst", work / "w.lock"
        generate_weights(shape, "bench/w", files, lock)
        pack_weights(lock, files, bundle)
        shutil.rmtree(files)
        bundle_bytes = size_of(bundle)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            _measure_round(bundle, number, found)
        what = f"A bundle of {size(bundle_bytes)}, parity of {SHARE:.0%}; {rounds} rounds"
        known = circumstances(work, before, what)
    publish(MARKS, f"{known}\n\n{markdown(found, bundle_bytes)}", write=write)


if __name__ == "__main__":
    main()
