"""`infini-llama report`: write the page of a run again, from its metrics."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.console.paths import GivenPath
from infini_llama.report.report import write_report


@click.command("report")
@click.argument("output_dir", type=GivenPath(exists=True, file_okay=False), metavar="OUTPUT_DIR")
def command(output_dir: Path) -> None:
    """Write OUTPUT_DIR/report.html from its metrics.jsonl and its newest checkpoint, and print its path.

    \b
    Example:
      infini-llama report run
    """
    click.echo(str(write_report(output_dir)))
