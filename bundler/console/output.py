"""Print: JSON and data to stdout, messages for people and progress to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from bundler.text.wording import escaped_lines


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which JSON can write and UTF-8 cannot.
        text = json.dumps(value, indent=2)
    click.echo(text)


def say(text: str) -> None:
    """Print a message for people on stderr; what a terminal would obey is escaped."""
    click.echo(escaped_lines(text), err=True)


@contextmanager
def progress_bar(
    title: str, total: int | None = None
) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """Show a progress bar of bytes on stderr while the block runs; nothing if stderr is not a terminal.

    Yields:
        Two functions: advance by a number of bytes; set the total in bytes.
    """
    if not sys.stderr.isatty():
        yield (lambda count: None), (lambda total: None)
        return
    from tqdm import tqdm

    # tqdm's monitor thread is only needed with miniters > 1. It is switched off, because the code inside the block may
    # call fork, which is unsafe beside other threads.
    tqdm.monitor_interval = 0
    bar: Any
    with tqdm(
        total=total, desc=title, unit="B", unit_scale=True, leave=False, dynamic_ncols=True, miniters=1
    ) as bar:

        def set_total(value: int) -> None:
            bar.total = value
            bar.refresh()

        yield bar.update, set_total
