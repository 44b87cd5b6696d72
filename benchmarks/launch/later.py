"""What launches cost after the first: ``python -m benchmarks.launch.later``.

Bundles are installed, and launched without being read: one of large files, one of many files, ten at once, and one of
500 GB, whose files are as long and have no content on the disk. CPU seconds are those of `bundle run -- true` and of
all that it starts. Then many launches start at once on nodes that share a home and a folder of stamps, and that nobody
has hashed: how much of the content they read together. A node is a process here that starts its launches one after the
other. With `--write` the table replaces the one in README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.section import circumstances, publish
from bundler.home.generation import stamps_path
from bundler.home.home import Home
from bundler.home.installation.install import install
from bundler.home.receipt import Receipt
from bundler.home.stamps.take import stamp_installed
from bundler.home.view.view import build_view
from bundler.home.write_receipt import set_current, write_receipt
from bundler.plan.layout import layout
from tests.support.bundles import lock_of, locked_repo, tiny_bundle

MARKS = Marks("bench-launch-later")
_BUNDLE = Path(sys.executable).with_name("bundle")
_MIB = 1 << 20


def make_home(home: Path, name: str, contents: dict[str, bytes]) -> None:
    """Install a bundle of one repo."""
    repo = locked_repo(f"org/{name}", contents)
    with tempfile.TemporaryDirectory(dir=home.parent) as folder:
        install(tiny_bundle(Path(folder), repo, contents=contents.values(), name=name), home)


def make_sparse_home(home: Path, size_bytes: int, files: int) -> None:
    """Make a home with one bundle whose files take no room, and remember them as hashed, as an installation does."""
    begun, digest = time.time(), f"sha256:{'5' * 64}"
    repo = locked_repo(
        "org/sparse", {f"model-{number}.safetensors": str(number).encode() for number in range(files)}
    )
    longer = [replace(file, size_bytes=size_bytes // files) for file in repo.files]
    lock = lock_of(replace(repo, files=tuple(longer)), name="sparse")
    content = layout(lock)
    for blob in content.blobs:
        place = home / blob.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        os.truncate(place, blob.size_bytes)
    build_view(home, "sparse", digest, content)
    write_receipt(home, Receipt(lock, digest, has_view=True))
    set_current(home, "sparse", digest)
    bundle = Home(home).bundle("sparse")
    stamp_installed(bundle, {blob.path for blob in content.blobs}, begun, sys.exit)


def launch(home: Path, *options: object) -> tuple[float, float, dict[str, int]]:
    """Launch `true`; return CPU seconds, wall seconds, and what was hashed and what was not, in bytes."""
    report = home.parent / f"report-{os.getpid()}.json"
    words = [_BUNDLE, "run", "--hf-home", home, "--isolate", "none", "--report", report, *options, "--", "true"]
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begun, os.times()
    if done.returncode:
        sys.exit(f"bundle run ended with {done.returncode}:\n{done.stderr}")
    bundles = json.loads(report.read_text())["bundles"]
    read = {key: sum(bundle[key] for bundle in bundles) for key in ("hashed_bytes", "stamped_bytes")}
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, wall, read


def measure(home: Path, rounds: int) -> str:
    """Return cells of a table: CPU and wall seconds of later launches, and the bytes that they hashed."""
    launch(home)
    launched = [launch(home) for _ in range(rounds)]
    cpu, wall = [taken[0] for taken in launched], [taken[1] for taken in launched]
    hashed = sum(read["hashed_bytes"] for _, _, read in launched)
    return f"{_spread(cpu)} | {_spread(wall)} | {hashed:,}"


def measure_job(home: Path, nodes: int, launches: int) -> str:
    """Return a sentence about a job whose launches find a home that nobody they believe has hashed."""
    [bundle] = Home(home).bundles()
    stamps_path(home, bundle.name, bundle.digest).unlink()
    program = (
        "import sys; from pathlib import Path; from benchmarks.launch.later import launch; "
        "print(sum(launch(Path(sys.argv[1]))[2]['hashed_bytes'] for _ in range(int(sys.argv[2]))))"
    )
    each = -(-launches // nodes)
    begun = time.perf_counter()
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(home), str(each)], stdout=subprocess.PIPE, text=True)
        for _ in range(nodes)
    ]
    told = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit("a node failed")
    total = sum(blob.size_bytes for blob in bundle.layout.blobs)
    ratio = sum(map(int, told)) / total
    return (
        f"{nodes * each:,} launches on {nodes} nodes, of a bundle of {total / _MIB:,.0f} MiB: they hashed "
        f"**{ratio:.3f}** of it together, in {time.perf_counter() - begun:.0f} s; target: at most 1.05."
    )


def _spread(values: Sequence[float]) -> str:
    return f"**{statistics.median(values):.2f} s** [{min(values):.2f}–{max(values):.2f}]"


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description="Measure what launches cost after the first.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mib", type=int, default=2048, help="of the bundle of large files")
    parser.add_argument("--sparse-gb", type=int, default=500, help="of the bundle of files without content")
    parser.add_argument("--files", type=int, default=100_000, help="of the bundle of many, and of ten together")
    parser.add_argument("--launches", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    options = parser.parse_args()
    machine.keep_bytecode()
    before = machine.load()
    rows = ["| installed | CPU | wall | bytes hashed |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory(prefix="bench-later-") as folder:
        work = Path(folder)
        os.environ["XDG_STATE_HOME"] = str(work / "state")
        large = {
            f"model-{number}.safetensors": number.to_bytes(4, "big") * (16 * _MIB)
            for number in range(options.mib // 64)
        }
        make_home(work / "large", "large", large)
        rows.append(f"| {options.mib} MiB in {len(large)} files | {measure(work / 'large', options.rounds)} |")
        make_sparse_home(work / "sparse", options.sparse_gb * 1000**3, 100)
        rows.append(f"| {options.sparse_gb} GB in 100 files | {measure(work / 'sparse', options.rounds)} |")
        for count in (1, 10):
            home = work / f"many-{count}"
            for number in range(count):
                each = {
                    f"d{i % 100}/{number}-{i}": f"{number} {i}".encode() for i in range(options.files // count)
                }
                make_home(home, f"many-{number}", each)
            title = f"{options.files:,} files in {count} bundle{'s' if count > 1 else ''}"
            rows.append(f"| {title} | {measure(home, options.rounds)} |")
        job = measure_job(work / "large", options.nodes, options.launches)
        known = circumstances(work, before, f"{options.rounds} rounds")
    publish(MARKS, "\n".join([known, "", *rows, "", job]), write=options.write)


if __name__ == "__main__":
    main()
