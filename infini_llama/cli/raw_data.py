"""The option `--raw-data`, the same for all commands that have it."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.console.paths import check_given

_DATASET = "dataset:"


def _check_exists(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse a path that does not exist, before anything slow begins."""
    check_given(value, parameter, context)
    if not value.startswith(_DATASET) and not Path(value).exists():
        raise click.BadParameter(f"{value!r} does not exist, and is not {_DATASET}org/name.", context, parameter)
    return value


raw_data_option = click.option(
    "--raw-data",
    required=True,
    metavar="DATA",
    callback=_check_exists,
    help="File or folder of text (*.txt), JSON Lines (*.jsonl, *.json) or Parquet, compressed or not; "
    "or dataset:org/name[:config[:split]] of the bundle.",
)
