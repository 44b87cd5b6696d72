"""The option `--raw-data`, alike in all commands that take it."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.console.paths import check_given

_DATASET = "dataset:"


def _checked(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a path that is not there, before anything slow begins."""
    check_given(value, parameter, context)
    if not value.startswith(_DATASET) and not Path(value).exists():
        raise click.BadParameter(f"{value!r} does not exist, and is no {_DATASET}org/name.", context, parameter)
    return value


raw_data_option = click.option(
    "--raw-data",
    required=True,
    metavar="DATA",
    callback=_checked,
    help="File or folder of text (*.txt), JSON Lines (*.jsonl, *.json) or Parquet, compressed or not; "
    "or dataset:org/name[:config[:split]] of the bundle.",
)
