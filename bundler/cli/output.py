"""What the commands share in talking to people and to scripts: `--json`, sizes, progress, common options."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bundler.cli.given import GivenPath

# Where a context notes, for whoever prints an error, that JSON was asked for.
JSON_ASKED_FOR = "bundler.json"


def _note_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.meta[JSON_ASKED_FOR] = value
    return value


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_note_json,
    help="Print the result, or the error, as JSON on stdout.",
)
hf_home_option = click.option(
    "--hf-home",
    type=GivenPath(file_okay=False, readable=False),  # our own errors name mode and owner
    metavar="DIR",
    help="Cache root. Default: $HF_HOME, else ~/.cache/huggingface.",
)
jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Cores to keep busy. Default: all that this process may use.",
)


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Tell a person something, on stderr."""
    click.echo(text, err=True)


def warn_of_other_caches(hf_home: Path) -> None:
    """Say which variables lead the libraries elsewhere than to `hf_home`; bundles do not go by them."""
    folders = {"HF_HUB_CACHE": "hub", "HUGGINGFACE_HUB_CACHE": "hub", "HF_DATASETS_CACHE": "datasets"}
    for name, folder in folders.items():
        value = os.environ.get(name)
        if value is not None and Path(value).expanduser().absolute().resolve() != (hf_home / folder).resolve():
            say(
                f"warning: {name} is {value!r} and not used: bundles are in {hf_home / folder}. A program that is "
                f"started without `bundle run` looks in the former: unset {name}"
            )


def size(count: int) -> str:
    """Return a number of bytes for people, in units of 1000 as disks and `hf` count: ``91.2 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.3g} {unit}"


@contextmanager
def progress_bar(
    title: str, total: int | None = None
) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """Show a bar of bytes on stderr while the block runs; nothing where stderr is no terminal.

    Yields:
        (advance by a number of bytes, set the total).
    """
    if not sys.stderr.isatty():
        yield (lambda count: None), (lambda total: None)
        return
    from tqdm import tqdm

    # tqdm's thread looks after bars that guess when to look at the clock. This one looks at each update, so that no
    # other thread runs beside what may want to fork.
    tqdm.monitor_interval = 0
    bar: Any
    with tqdm(
        total=total, desc=title, unit="B", unit_scale=True, leave=False, dynamic_ncols=True, miniters=1
    ) as bar:

        def set_total(value: int) -> None:
            bar.total = value
            bar.refresh()

        yield bar.update, set_total
