"""Options that say how closely the content of a bundle is looked at before a launch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bundler.home.stamps.check import ContentCheck


def content_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets what they ask for as `check`."""
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

    @functools.wraps(command)
    def with_check(
        *arguments: object, quick: bool, full: bool, sample: float, recheck_days: float, **others: object
    ) -> object:
        check = _choose_check(quick=quick, full=full, sample=sample, recheck_days=recheck_days)
        return command(*arguments, check=check, **others)

    whole: Callable[..., Any] = with_check
    for option in reversed(options):
        whole = option(whole)
    return whole


def _choose_check(*, quick: bool, full: bool, sample: float, recheck_days: float) -> ContentCheck:
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
