"""The command `infini-llama`.

Rule book:

* nothing here imports torch or a Hugging Face library before the network is shut and the bundle is verified: those
  libraries read their switches when they are imported;
* cheap checks come first: a misspelt key should not wait for a bundle of 100 GB to be hashed;
* the summary goes to stdout, everything else to stderr; errors end in the exit codes of `bundler.errors`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler import __version__
from bundler.cli import ErrorGroup
from bundler.offline.attempts import read_attempts
from bundler.offline.enforce import attempts_folder
from infini_llama import checkpoints, settings
from infini_llama.ranks import enforce_offline_once_per_node

if TYPE_CHECKING:
    from infini_llama.training import Summary


@click.group(
    cls=ErrorGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes are documented in OFFLINE_MODE.md.",
)
@click.version_option(__version__, prog_name="infini-llama")
def main() -> None:
    """Train an Infini-Llama from a verified bundle, with the network shut."""


@main.command()
@click.option("--bundle", required=True, metavar="NAME", help="Installed bundle that holds the tokenizer.")
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Training configuration (YAML).",
)
@click.option(
    "--raw-data",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="UTF-8 text file, or a folder that is searched for *.txt; one file is one document.",
)
@click.option(
    "--output-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where checkpoints go; must be empty or new, unless --resume.",
)
@click.option(
    "--hf-home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the bundle is installed [default: $HF_HOME, else the Hugging Face default].",
)
@click.option(
    "--resume", is_flag=True, help="Go on from the last complete checkpoint in --output-dir, if there is one."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key: training.steps=100.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def train(
    bundle: str,
    config_path: Path,
    raw_data: Path,
    output_dir: Path,
    hf_home: Path | None,
    resume: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train on raw text.

    \b
    Example:
      infini-llama train --bundle demo --config demo/train.yaml --raw-data corpus/ --output-dir run
      torchrun --nproc-per-node 8 -m infini_llama train --bundle demo ...
    """
    resolved = settings.load(config_path, overrides)
    resume_from = starting_point(output_dir, resume=resume)
    installed = enforce_offline_once_per_node(bundle, hf_home=hf_home)

    # Libraries print to stdout as they please (transformers does, offline); a script wants the summary alone there.
    with contextlib.redirect_stdout(sys.stderr):
        from infini_llama import training

        summary = training.train(
            resolved, installed, raw_data=raw_data, output_dir=output_dir, resume_from=resume_from
        )
    if os.environ.get("RANK", "0") == "0":
        show(summary, network_attempts(), as_json=as_json)


def starting_point(output_dir: Path, *, resume: bool) -> Path | None:
    """Return the checkpoint to go on from, or None to start afresh.

    Raises:
        click.UsageError: The folder is in use and nobody said to resume.
    """
    if resume:
        return checkpoints.latest(output_dir)
    # A run that was killed before its first checkpoint leaves only an incoming folder, which is worth nothing.
    if output_dir.is_dir() and any(path.name != checkpoints.INCOMING for path in output_dir.iterdir()):
        raise click.UsageError(
            f"--output-dir {output_dir} is not empty; add --resume to go on with the run in it, or name another folder"
        )
    return None


def network_attempts() -> int | None:
    """Return how many network attempts the guards of this launch have noted and refused; None if none is in force."""
    folder = attempts_folder()
    return None if folder is None else len(read_attempts(folder))


def show(summary: Summary, attempts: int | None, *, as_json: bool) -> None:
    """Print what the run came to."""
    values = {**dataclasses.asdict(summary), "network_attempts": attempts}
    if as_json:
        click.echo(json.dumps(values))
        return
    click.echo(f"first loss   {summary.first_loss:.4f}")
    click.echo(f"last loss    {summary.last_loss:.4f}")
    click.echo(f"steps        {summary.steps} ({summary.tokens:,} tokens in {summary.seconds:.0f} s)")
    click.echo(f"parameters   {summary.parameters:,}")
    click.echo(f"checkpoint   {summary.checkpoint}")
    click.echo(f"bundle       {summary.bundle} {summary.bundle_digest}")
    if attempts is not None:
        click.echo(f"network      {attempts} attempts")
