"""A bundle in a registry: pushed, pulled, installed from there, and one tensor of it: what `make bench-registry` runs.

    python -m benchmarks.registry.run [--write] [--shape 8b] [--rounds N]

The registry is Debian's docker-registry on loopback, on the same cores. A temporary copy of a bundle would have no
place: TMPDIR names a folder that is not there. What goes over the wire is the kernel's count for loopback, requests and
headers included. Everything is made in --work, which is removed at the end.
"""

from __future__ import annotations

import filecmp
import random
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks
from benchmarks.lib.measure import Run, Step, command, measure, remove, size_of
from benchmarks.lib.section import circumstances, publish, spread
from benchmarks.lib.work import work_folder
from benchmarks.pack.generated import generate_weights, pack_weights
from benchmarks.pack.tools import BIN
from benchmarks.scale.registry import serve, why_not
from bundler.console.output import say
from bundler.text.wording import size

HERE = Path(__file__).parents[1]
MARKS = Marks("bench-registry")
TENSOR_SHARE, TENSOR_WIRE, STREAMED = 1 / 15, 1.05, 1.4
PEAK_BYTES = 300_000_000
KILLS = 20
_ROOM_BYTES = {"tiny": 1_000_000_000, "1b": 12_000_000_000, "8b": 60_000_000_000}
_REPO = "bench/w"
# The largest tensor; by `benchmarks.pack.weights` it stands in the first file.
_TENSOR = "model.embed_tokens.weight"

Figures = dict[str, list[Run]]


def received_bytes() -> int:
    """Return how many bytes loopback has carried (proc_pid_net(5))."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return next(int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("lo:"))


def _measure_round(work: Path, address: str, repo_file: str, found: Figures, wire: list[float]) -> None:
    """Do everything once; what is made is removed."""
    pulled, home, apart, tensor, log = (
        work / name for name in ("p.tar.zst", "home", "apart", "tensor", "bench.log")
    )
    env = {"TMPDIR": str(work / "not-there")}

    def take(name: str, *words: str | Path, writes: tuple[Path, ...] = (), stdout: Path | None = None) -> None:
        say(f"  {name}")
        step = Step(
            argv=command(BIN / "bundle", *words), shown=f"bundle {name}", env=env, writes=writes, stdout=stdout
        )
        found.setdefault(name, []).append(measure(step, log))

    take("pull", "pull", address, "-o", pulled, writes=(pulled,))
    take("install what was pulled", "install", pulled, "--hf-home", apart, writes=(apart,))
    remove(pulled)
    remove(apart)
    take("install from the registry", "install", address, "--hf-home", home, writes=(home,))
    remove(home)
    before = received_bytes()
    take("cat of one tensor", "cat", address, _REPO, f"{repo_file}:{_TENSOR}", stdout=tensor)
    wire.append(received_bytes() - before)


def kill_pulls(address: str, out: Path, kills: int, bundle_bytes: int, seed: int = 0) -> float:
    """Pull a bundle, killed again and again after a random part of it; return what loopback carried."""
    chance, before = random.Random(seed), received_bytes()  # noqa: S311 -- moments
    words = [str(BIN / "bundle"), "pull", address, "-o", str(out)]
    for _ in range(kills):
        enough = received_bytes() + chance.uniform(0, bundle_bytes / (kills + 1))
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while received_bytes() < enough and process.poll() is None:
                time.sleep(0.005)
            process.kill()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return received_bytes() - before


def markdown(
    found: Figures, wire: Sequence[float], share_bytes: float, killed: float, bundle_bytes: int, kills: int = KILLS
) -> str:
    """Return the tables.

    Args:
        found: What was measured, by what it is.
        wire: Bytes that one tensor took, in each round.
        share_bytes: Its share of the bundle by its length.
        killed: Bytes that a pull took that was killed again and again.
        bundle_bytes: Length of the bundle.
        kills: How often that one was killed.
    """
    lines = ["| | wall | CPU | peak memory | |", "| --- | --- | --- | --- | --- |"]
    for name, runs in found.items():
        peak = max(run.peak_bytes for run in runs)
        lines.append(
            f"| {name} | {spread([run.wall_seconds for run in runs])} | {spread([run.cpu_seconds for run in runs])} | "
            f"{size(peak)} | {_judge(peak <= PEAK_BYTES, size(PEAK_BYTES))} |"
        )
    apart = [
        first.wall_seconds + then.wall_seconds
        for first, then in zip(found["pull"], found["install what was pulled"], strict=True)
    ]
    streamed = [
        both / run.wall_seconds for both, run in zip(apart, found["install from the registry"], strict=True)
    ]
    tensor = [run.wall_seconds / both for run, both in zip(found["cat of one tensor"], apart, strict=True)]
    over = [count / share_bytes for count in wire]
    is_short = statistics.median(tensor) <= TENSOR_SHARE
    lines += [
        "",
        "| | | |",
        "| --- | --- | --- |",
        f"| installed from the registry, over pull and install | {spread(streamed, ' ×')} faster | "
        f"{_judge(statistics.median(streamed) >= STREAMED, f'{STREAMED:g} ×')} |",
        f"| one tensor, as a share of pull and install | {spread(tensor, '', 3)} | {_judge(is_short, '1/15')} |",
        f"| what it took of the wire, over its share of the bundle | {spread(over, ' ×', 3)} | "
        f"{_judge(statistics.median(over) <= TENSOR_WIRE, f'{TENSOR_WIRE:g} ×')} |",
        f"| a pull that was killed {kills} times took of the wire | {killed / bundle_bytes:.2f} × the bundle | |",
    ]
    return "\n".join(lines)


def _judge(is_reached: bool, goal: str) -> str:
    return f"{'reached' if is_reached else '**not reached**'}: {goal}"


@click.command()
@click.option("--shape", type=click.Choice(list(_ROOM_BYTES)), default="1b", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--kills", type=click.IntRange(0), default=KILLS, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "work", show_default="benchmarks/work")
@click.option("--write", is_flag=True, help="Write the tables to benchmarks/README.md.")
def main(shape: str, rounds: int, kills: int, work: Path, write: bool) -> None:
    """Push generated weights to a registry, and bring them back in several ways."""
    if missing := why_not():
        raise click.ClickException(missing)
    before = machine.load()
    found: Figures = {}
    wire: list[float] = []
    with work_folder(work, _ROOM_BYTES[shape]) as work:
        files, bundle, lock = work / "files", work / "w.tar.zst", work / "w.lock"
        generate_weights(shape, _REPO, files, lock)
        pack_weights(lock, files, bundle)
        raw_bytes, bundle_bytes = size_of(files), bundle.stat().st_size
        first = min(path.name for path in files.iterdir() if path.suffix == ".safetensors")
        with serve(work, "127.0.0.1", bundle) as address:
            again = f"{address.rpartition('/')[0]}/again:1"
            push = Step(
                argv=command(BIN / "bundle", "push", bundle, again),
                shown="bundle push",
                env={"TMPDIR": str(work / "not-there")},
            )
            say("push")
            found["push"] = [measure(push, work / "bench.log")]
            remove(files)
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}")
                _measure_round(work, address, first, found, wire)
            tensor_bytes = (work / "tensor").stat().st_size
            say(f"a pull that is killed {kills} times")
            killed = kill_pulls(address, work / "killed.tar.zst", kills, bundle_bytes)
            if not filecmp.cmp(work / "killed.tar.zst", bundle, shallow=False):
                raise click.ClickException("what was pulled at last is another bundle")
        what = (
            f"{size(raw_bytes)} of generated bf16 weights in a bundle of {size(bundle_bytes)}; one tensor of "
            f"{size(tensor_bytes)}; {rounds} rounds"
        )
        known = circumstances(work, before, what)
    text = markdown(found, wire, tensor_bytes * bundle_bytes / raw_bytes, killed, bundle_bytes, kills)
    publish(MARKS, f"{known}\n\n{text}", write=write)


if __name__ == "__main__":
    main()
