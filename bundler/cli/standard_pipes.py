"""Bundles through standard input and output: from and to pipes, never a terminal."""

from __future__ import annotations

import os
import sys
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.errors import UsageError
from bundler.remote.address import Address, Place

if TYPE_CHECKING:
    from bundler.format.storage.destinations import PipeDestination


def standard_input() -> FileIO:
    """Return standard input as a raw stream.

    Raises:
        UsageError: It is a terminal.
    """
    if sys.stdin.isatty():
        raise UsageError(
            "expected a bundle on standard input, found a terminal", hint="cat demo.tar.zst | bundle install -"
        )
    return FileIO(sys.stdin.fileno(), closefd=False)


def check_standard_output() -> None:
    """Refuse to write a bundle to a terminal, or to nothing.

    Raises:
        UsageError: Standard output is one, or is closed.
    """
    # Python's own sign that the process was started without one.
    if sys.stdout is None:
        raise UsageError(
            "standard output is closed", hint="write to a file: bundle fetch MANIFEST -o NAME.tar.zst"
        )
    if sys.stdout.isatty():
        raise UsageError(
            "refusing to write a bundle to a terminal", hint="pipe it: bundle fetch MANIFEST -o - | ssh HOST …"
        )


def take_standard_output() -> int:
    """Return a descriptor of standard output, and send all that this process prints from now on to stderr.

    Libraries print on stdout as they like, and one line of that inside a bundle would ruin it.
    """
    sys.stdout.flush()
    taken = os.dup(1)
    os.dup2(2, 1)
    return taken


def choose_output(output: Place | None, *, dry_run: bool, is_mixed: bool) -> Path | PipeDestination | None:
    """Return where `bundle fetch` writes to: what ``-o`` says, or standard output for ``-``.

    Raises:
        click.UsageError: The bundle would be mixed with something else, or cut.
        UsageError: Standard output is a terminal, or closed.
    """
    assert not isinstance(output, Address), "an address is no pipe"
    if output != Path("-"):
        return output
    if is_mixed:
        raise click.UsageError("-o - writes the bundle to stdout: leave --json and --volume-size away")
    check_standard_output()
    from bundler.format.storage.destinations import PipeDestination

    # What a dry run prints still goes there.
    return PipeDestination(1 if dry_run else take_standard_output())
