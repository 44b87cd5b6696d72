"""Options of commands that write a manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from bundler.cli.bundle_arguments import OutputFile

name_option = click.option(
    "--name", metavar="NAME", help="Name of the bundle.  [default: from the name of MANIFEST]"
)


def manifest_option(about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that says where the manifest is, with a sentence about what is done to it."""
    return click.option(
        "-o",
        "--output",
        "manifest_path",
        metavar="MANIFEST",
        type=OutputFile(),
        default="manifest.yaml",
        show_default=True,
        help=about,
    )
