"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path

import click

from bundler.console.output import say
from bundler.console.paths import GivenPath

# Key in the context's `meta`: JSON was asked for, so errors are printed as JSON too.
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
    type=GivenPath(file_okay=False, readable=False),  # our error names mode and owner, click's does not
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


def warn_of_other_caches(hf_home: Path) -> None:
    """Warn of variables that make the libraries use another cache than `hf_home`; `bundle` ignores them."""
    folders = {"HF_HUB_CACHE": "hub", "HUGGINGFACE_HUB_CACHE": "hub", "HF_DATASETS_CACHE": "datasets"}
    for name, folder in folders.items():
        value = os.environ.get(name)
        if value is not None and Path(value).expanduser().absolute().resolve() != (hf_home / folder).resolve():
            say(
                f"warning: {name} is {value!r} and is ignored here: bundles are in {hf_home / folder}. "
                f"A program that is started without `bundle run` looks in {value!r}: unset {name}"
            )
