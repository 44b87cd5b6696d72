"""`infini-llama export`: write the model of a checkpoint in shards to a folder that any transformers program loads."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from bundler.console.paths import GivenPath
from bundler.offline.enforce import enforce_offline
from infini_llama.cli.checkpoint import checkpoint_argument


@click.command("export")
@checkpoint_argument
@click.option("--output-dir", required=True, type=GivenPath(), help="A new folder for model and tokenizer.")
def command(checkpoint: Path, output_dir: Path) -> None:
    """Write the model of a checkpoint in shards (`training.checkpoint_format`) to a new folder in safetensors.

    It needs RAM for one file, of at most 5 GiB, however large the model is, and one process.

    \b
    Example:
      infini-llama export run/checkpoint-120 --output-dir model
    """
    enforce_offline(quick=True)
    with contextlib.redirect_stdout(sys.stderr):
        from infini_llama.parallel.sharded_checkpoint import export

        parameters = export(checkpoint, output_dir)
    click.echo(f"model        {output_dir}")
    click.echo(f"parameters   {parameters:,}")
