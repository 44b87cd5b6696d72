"""The option `--raw-data`, the same for all commands that have it; a configuration may list sources instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bundler.console.paths import check_given
from infini_llama.settings.sections import Settings

F = TypeVar("F", bound=Callable[..., Any])

_DATASET = "dataset:"


def _check_exists(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a path that does not exist, before anything slow begins."""
    if value is None:
        return None
    check_given(value, parameter, context)
    if not value.startswith(_DATASET) and not Path(value).exists():
        raise click.BadParameter(f"{value!r} does not exist, and is not {_DATASET}org/name.", context, parameter)
    return value


def raw_data_option(*, required: bool = True) -> Callable[[F], F]:
    """Return the option; not required where a configuration may list sources instead."""
    return click.option(
        "--raw-data",
        required=required,
        metavar="DATA",
        callback=_check_exists,
        help="File or folder of text (*.txt), JSON Lines (*.jsonl, *.json) or Parquet, compressed or not; "
        "or dataset:org/name[:config[:split]] of the bundle."
        + ("" if required else " Not needed where the configuration has data.sources."),
    )


def check_sources(raw_data: str | None, settings: Settings) -> None:
    """Check that there is one source, or several with weights, before anything slow begins.

    Raises:
        click.UsageError: Both or neither are given.
    """
    if raw_data is None and not settings.data.sources:
        raise click.UsageError("say what to train on: --raw-data, or data.sources in the configuration")
    if raw_data is not None and settings.data.sources:
        raise click.UsageError(
            "--raw-data and data.sources in the configuration: give one of them; data.sources takes this as an entry"
        )
