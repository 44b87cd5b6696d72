"""A training run on real text that is killed again and again, beside a control without memory.

    python -m benchmarks.train.real_text [--write] [--steps N]        `make train-real-text`

The text is CPython's standard library as it lies on this machine: long documents, in which names come back far from
where they were defined. One file in forty is held out. Two models of one shape, seed and budget are trained through
`bundle run` from the demo's bundle, at the same time, with half of the cores each:

* the first is killed twice with SIGKILL, the whole launch at once, and stopped once with SIGTERM, as a scheduler does;
  each time the same command resumes it;
* the control has its gates shut from the start, so that only local attention is left. It runs straight through under
  strace, which counts what it does to the network.

Both are then evaluated on the held-out files with `infini-llama eval`. With `--write`, the table replaces the one in
`infini_llama/README.md`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from benchmarks.lib.marks import Marks
from demo import hub
from demo.run import BIN, MANIFEST, run_step, serve

_ROOT = Path(__file__).parents[2]
_DOCUMENT = _ROOT / "infini_llama" / "README.md"
_CONFIG = Path(__file__).with_name("real_text.yaml")
_MARKS = Marks("train-real-text")
_HELD_OUT_EVERY = 40
_LEAST_CHARACTERS = 4000
_LEFT_OUT = {"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"}
_NETWORK_CALLS = "connect,sendto,sendmsg,sendmmsg"
# What `infini-llama train` ends with when a signal stopped it in order.
_REQUEUE = 75
# Steps at which the run is interrupted, as parts of all steps, and how.
_INTERRUPTIONS = ((0.23, signal.SIGKILL), (0.47, signal.SIGTERM), (0.71, signal.SIGKILL))
_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """One end of a run before its time.

    Attributes:
        signal: What ended it.
        seen_step: Last step of its log before the signal.
        exit_code: Of the launch.
        resumed_from: Name of the checkpoint that the next launch went on from.
    """

    signal: str
    seen_step: int
    exit_code: int
    resumed_from: str


@click.command()
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), default=Path("benchmarks/work/real-text")
)
@click.option(
    "--steps", type=click.IntRange(min=20), help="Optimizer steps of both models, instead of the file's."
)
@click.option("--write", is_flag=True, help="Replace the table in infini_llama/README.md.")
def main(work: Path, steps: int | None, write: bool) -> None:
    """Train on real text through interruptions; compare with the same model whose gates are shut."""
    work = work.absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    home = install(work)
    sizes = write_corpus(work / "text")
    total = steps or int(yaml.safe_load(_CONFIG.read_text())["training"]["steps"])
    every = {"steps": total, "log_every_steps": max(1, total // 40), "checkpoint_every_steps": max(1, total // 10)}
    budget = [word for key, value in every.items() for word in ("--set", f"training.{key}={value}")]
    shut = ["--set", "model.gate_init=-20", "--set", "training.gate_learning_rate=1e-12"]
    with ThreadPoolExecutor(2) as pool:
        killed = pool.submit(train_interrupted, work, home, "memory", budget, total)
        control = pool.submit(train_traced, work, home, "gates-shut", [*budget, *shut])
        (memory, interruptions), (gates_shut, network_uses) = killed.result(), control.result()
    tables = {
        name: evaluate(work, home, summary) for name, summary in {"memory": memory, "shut": gates_shut}.items()
    }
    text = markdown(sizes, memory, interruptions, network_uses, tables)
    click.echo(text)
    if write:
        _MARKS.write(_DOCUMENT, text)


def install(work: Path) -> Path:
    """Fetch the demo's bundle and install it; return its HF_HOME."""
    home = work / "hf-home"
    hub.assemble(work / "repos")
    shutil.copyfile(MANIFEST, work / "demo.yaml")
    bundle = work / "demo.tar.zst"
    with serve(work / "repos") as endpoint:
        online = {"HF_ENDPOINT": endpoint, "HF_HOME": str(work / "online-hf-home")}
        run_step(
            ["bundle", "fetch", work / "demo.yaml", "-o", bundle, "--cache-dir", work / "staging", "--json"],
            online,
        )
    run_step(["bundle", "install", bundle, "--json"], {"HF_HOME": str(home)})
    return home


def write_corpus(folder: Path) -> dict[str, tuple[int, int]]:
    """Write the training and the held-out text; return files and characters of each."""
    library = Path(sysconfig.get_paths()["stdlib"])
    sizes = {"train": (0, 0), "held-out": (0, 0)}
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library).as_posix()
        if _LEFT_OUT & set(name.split("/")[:-1]):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if len(text) < _LEAST_CHARACTERS:
            continue
        # By name, so that the same files are held out whatever else is installed.
        is_held_out = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % _HELD_OUT_EVERY == 0
        split = "held-out" if is_held_out else "train"
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / split / f"{name.removesuffix('.py').replace('/', '.')}.txt").write_text(text, encoding="utf-8")
        files, characters = sizes[split]
        sizes[split] = files + 1, characters + len(text)
    return sizes


def train_interrupted(
    work: Path, home: Path, name: str, words: list[str], steps: int
) -> tuple[dict[str, Any], list[Interruption]]:
    """Train, with all of `_INTERRUPTIONS` on the way; return the last summary and what happened."""
    interruptions: list[Interruption] = []
    for part, number in _INTERRUPTIONS:
        seen, code = interrupt(work, home, name, words, at_step=round(part * steps), number=number)
        expected = _REQUEUE if number is signal.SIGTERM else -signal.SIGKILL
        if code != expected:
            raise click.ClickException(
                f"{number.name} at step {seen}: expected exit code {expected}, found {code}"
            )
        resumed_from = max(
            (work / name).glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2])
        ).name
        interruptions.append(
            Interruption(signal=number.name, seen_step=seen, exit_code=code, resumed_from=resumed_from)
        )
    with launch(work, home, name, words) as process:
        assert process.stdout is not None
        summary = json.loads(process.stdout.read())
        finish(process, name)
    return summary, interruptions


def interrupt(
    work: Path, home: Path, name: str, words: list[str], *, at_step: int, number: signal.Signals
) -> tuple[int, int]:
    """Train up to a step of the log, then send the signal; return the step seen and the exit code."""
    with launch(work, home, name, words) as process:
        while (seen := last_step(work / f"{name}.log")) < at_step:
            if process.poll() is not None:
                raise click.ClickException(f"{name}: ended with {process.returncode} before step {at_step}")
            time.sleep(_POLL_SECONDS)
        if number is signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        return seen, process.wait()


def train_traced(work: Path, home: Path, name: str, words: list[str]) -> tuple[dict[str, Any], int]:
    """Train straight through under strace; return the summary and how often an internet address was named."""
    trace = work / f"{name}.trace"
    tracer = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={_NETWORK_CALLS}", "-o", str(trace)]
    with launch(work, home, name, words, tracer) as process:
        assert process.stdout is not None
        summary = json.loads(process.stdout.read())
        finish(process, name)
    return summary, len(re.findall(r"sa_family=AF_INET6?\b", trace.read_text()))


@contextlib.contextmanager
def launch(
    work: Path, home: Path, name: str, words: list[str], tracer: list[str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start `infini-llama train --resume` through `bundle run`, in a process group of its own."""
    command = ["bundle", "run", "--bundle", "demo", "--strict", "--", *(tracer or ()), "infini-llama", "train"]
    places: list[str | Path] = ["--raw-data", work / "text" / "train", "--output-dir", work / name]
    argv = [*command, "--bundle", "demo", "--config", _CONFIG, *places, "--resume", "--json", *words]
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "HF_HOME": str(home), "OMP_NUM_THREADS": threads, "PATH": path}
    with (
        (work / f"{name}.log").open("a") as log,
        subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def finish(process: subprocess.Popen[str], name: str) -> None:
    """Wait for a launch that is to succeed."""
    if process.wait():
        raise click.ClickException(f"{name}: ended with exit code {process.returncode}")


def last_step(log: Path) -> int:
    """Return the last step that the log names, 0 if there is none."""
    found = re.findall(r"^step +(\d+)/", log.read_text() if log.exists() else "", re.MULTILINE)
    return int(found[-1]) if found else 0


def evaluate(work: Path, home: Path, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the perplexities of a checkpoint on the held-out text, by stretch of segments."""
    words: list[str | Path] = [
        *("bundle", "run", "--quick", "--", "infini-llama", "eval", Path(summary["checkpoint"])),
        *("--raw-data", work / "text" / "held-out", "--json"),
    ]
    stretches: list[dict[str, Any]] = run_step(words, {"HF_HOME": str(home)})["stretches"]
    return stretches


def markdown(
    sizes: dict[str, tuple[int, int]],
    memory: dict[str, Any],
    interruptions: list[Interruption],
    network_uses: int,
    tables: dict[str, list[dict[str, Any]]],
) -> str:
    """Return the account of the run."""
    files, characters = sizes["train"]
    held_out_files, held_out_characters = sizes["held-out"]
    lines = [
        f"CPython {sys.version.split()[0]}'s standard library: {files} files of {characters / 1e6:.1f} million "
        f"characters to train on, {held_out_files} of {held_out_characters / 1e6:.1f} million held out. "
        f"{memory['parameters']:,} parameters, {memory['steps']} steps, {memory['tokens']:,} tokens.",
        "",
        *(
            f"- {one.signal} at step {one.seen_step} or soon after: exit code {one.exit_code}, resumed from "
            f"`{one.resumed_from}`"
            for one in interruptions
        ),
        f"- the control, straight through under strace: {network_uses} uses of an internet address",
        "",
        "| segments of a document | tokens | trained with memory | the same, gates shut for the evaluation | "
        "trained with gates shut |",
        "| --- | --- | --- | --- | --- |",
    ]
    for ours, control in zip(tables["memory"], tables["shut"], strict=True):
        is_whole = ours is tables["memory"][-1]
        span = str(ours["first"]) if ours["first"] == ours["last"] else f"{ours['first']}–{ours['last']}"
        cells = [
            "all" if is_whole else span,
            f"{ours['tokens']:,}",
            *(
                f"{value:.2f}"
                for value in (ours["with_memory"], ours["without_memory"], control["without_memory"])
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
