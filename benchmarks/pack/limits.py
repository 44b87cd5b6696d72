"""Sizes that other tools refuse: packed, verified, installed, launched and removed. What `make soak` runs.

    python -m benchmarks.pack.limits [--write] [--file-bytes N] [--files N]

One safetensors file of 20 GB, sparse, so that its bundle is small; and a repo of 100,000 small files. What is looked at
is that they pass, and that memory stays flat; the times of zeros say nothing about weights. Everything is made in
--work, which is removed at the end.
"""

from __future__ import annotations

import datetime
import json
import struct
import sys
from pathlib import Path

import click

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.measure import Step, command, measure, remove
from benchmarks.lib.work import work_folder
from benchmarks.pack.tools import BIN
from bundler.console.output import say
from bundler.text.wording import size

HERE = Path(__file__).parents[1]
MARKS = Marks("soak")
# What a small file takes on the disk, twice: as it is made and as it is installed, with snapshot and index.
_SMALL_FILE_ROOM_BYTES = 20_000
_SPARE_BYTES = 5_000_000_000


def _sparse_model(folder: Path, size_bytes: int) -> None:
    """Write one safetensors file with one tensor of bf16 zeros, which take no room."""
    words = size_bytes // 2
    header = {"w": {"dtype": "BF16", "shape": [words], "data_offsets": [0, 2 * words]}}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + 2 * words)


def _small_files(folder: Path, count: int) -> None:
    """Write files of a few bytes, all different."""
    for number in range(count):
        (folder / f"{number:06}.txt").write_text(f"file {number} of {count}\n")


def _steps(name: str, work: Path) -> dict[str, Step]:
    """Return what is done with the files in `work/NAME`, in order."""
    folder, lock, bundle, home = work / name, work / f"{name}.lock", work / f"{name}.tar.zst", work / "hf"
    child = command(sys.executable, "-m", "benchmarks.pack.pack_child")
    here = HERE.parent
    return {
        "hash": Step(
            argv=[*child, "lock", name, f"soak/{name}", folder, lock], shown="lock", writes=(lock,), cwd=here
        ),
        "pack": Step(argv=[*child, "pack", lock, folder, bundle], shown="pack", writes=(bundle,), cwd=here),
        "verify the bundle": Step(argv=[BIN / "bundle", "verify", bundle], shown="bundle verify FILE"),
        "install": Step(
            argv=[BIN / "bundle", "install", bundle, "--hf-home", home],
            shown="bundle install FILE",
            writes=(home,),
        ),
        "verify what is installed": Step(
            argv=[BIN / "bundle", "verify", name, "--hf-home", home], shown="bundle verify NAME"
        ),
        "launch": Step(
            argv=[BIN / "bundle", "run", "--bundle", name, "--hf-home", home, "--", "true"],
            shown="bundle run --bundle NAME -- true",
        ),
        "remove": Step(argv=[BIN / "bundle", "remove", name, "--hf-home", home], shown="bundle remove NAME"),
    }


def _measure_steps(title: str, name: str, work: Path) -> list[str]:
    lines = []
    for action, step in _steps(name, work).items():
        say(f"{title}: {action}")
        run = measure(step, work / "soak.log")
        result = size(run.size_bytes) if action in ("pack", "install") else ""
        lines.append(
            f"| {title} | {action} | {run.wall_seconds:.1f} s | {run.cpu_seconds:.1f} s | {size(run.peak_bytes)} "
            f"| {result} |"
        )
        title = ""
    return lines


def _words(load: list[float]) -> str:
    return " ".join(map(str, load))


@click.command()
@click.option("--file-bytes", type=click.IntRange(2), default=20_000_000_000, show_default=True)
@click.option("--files", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "soak", show_default="benchmarks/soak")
@click.option("--write", is_flag=True, help="Write the table to benchmarks/README.md.")
def main(file_bytes: int, files: int, work: Path, write: bool) -> None:
    """Pack, verify, install, launch and remove one huge file, and very many small ones."""
    needed = file_bytes + files * _SMALL_FILE_ROOM_BYTES + _SPARE_BYTES
    before = machine.load()
    rows = []
    with work_folder(work, needed) as work:
        for name, title in (("huge", f"one file of {size(file_bytes)}"), ("many", f"{files:,} files")):
            (work / name).mkdir(parents=True)
            if name == "huge":
                _sparse_model(work / name, file_bytes)
            else:
                _small_files(work / name, files)
            rows += _measure_steps(title, name, work)
            remove(work)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    table = "\n".join(
        [
            f"{today}; load averages (1, 5, 15 min): before {_words(before)}; after {_words(machine.load())}.",
            "",
            "| | | wall | CPU | peak memory | written |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )
    click.echo(table)
    if write:
        MARKS.write(HERE / "README.md", table)


if __name__ == "__main__":
    main()
