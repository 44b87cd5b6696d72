"""Bundles through standard input and output: from and to pipes, never a terminal."""

from __future__ import annotations

import os
import sys
from io import FileIO

from bundler.errors import UsageError


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
