"""What the commands print: JSON and data on stdout, words for people and progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Tell a person something, on stderr."""
    click.echo(text, err=True)


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
