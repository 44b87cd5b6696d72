"""Options that say how closely the content of a bundle is looked at before a launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bundler.home.stamps.check import ContentCheck


def content_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    options = [
        click.option(
            "--quick", is_flag=True, help="Compare names, links and sizes before the start, hash nothing."
        ),
        click.option(
            "--full", is_flag=True, help="Hash all content, also what has not changed since it was hashed."
        ),
        click.option(
            "--sample",
            type=click.FloatRange(0, 100),
            default=0,
            metavar="PERCENT",
            help="Hash each unchanged file with this chance, 4 GiB at most.  [default: 0]",
        ),
        click.option(
            "--recheck-days",
            type=click.FloatRange(min=0),
            default=30,
            metavar="DAYS",
            help="Hash all again if that was done longer ago; 0 for never.  [default: 30]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def choose_check(*, quick: bool, full: bool, sample: float, recheck_days: float) -> ContentCheck:
    """Return what the options ask for.

    Raises:
        click.UsageError: They contradict each other.
    """
    from bundler.home.stamps.check import ContentCheck

    if quick and (full or sample):
        raise click.UsageError("--quick hashes nothing: leave it out, or --full and --sample")
    return ContentCheck(
        kind="quick" if quick else "full" if full else "stamped", sample_percent=sample, recheck_days=recheck_days
    )
