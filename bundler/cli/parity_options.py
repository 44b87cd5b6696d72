"""Options that say what parity of a bundle is made, and what is rebuilt from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from bundler.console.paths import GivenPath


class Share(click.ParamType[Fraction]):
    """A share such as ``10%`` or ``2.5%``."""

    name = "SHARE"

    def convert(self, value: str | Fraction, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        """See `click.ParamType`."""
        if isinstance(value, Fraction):
            return value
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)\s*%", value.strip())
        share = Fraction(match[1]) / 100 if match else Fraction(0)
        if not 0 < share <= 1:
            self.fail(f"{value!r}: expected a share, more than 0% and at most 100%, such as 10%", param, ctx)
        return share


parity_option = click.option(
    "--parity",
    "share",
    metavar="SHARE",
    type=Share(),
    help="Write parity of it beside it too, as `bundle parity`: of 10%, for instance.",
)


def repair_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--parity`` and ``--no-repair``; the command gets files as `parity`, None for rebuilding nothing."""

    @functools.wraps(command)
    def with_parity(*arguments: object, parity: tuple[Path, ...], no_repair: bool, **others: object) -> object:
        if parity and no_repair:
            raise click.UsageError("--parity rebuilds from that file, --no-repair from none: choose one")
        return command(*arguments, parity=None if no_repair else parity, **others)

    named = click.option(
        "--parity",
        multiple=True,
        metavar="FILE",
        type=GivenPath(dir_okay=False),
        help="Parity that is not beside BUNDLE; or of a pipe, which is then copied to TMPDIR. Repeatable.",
    )
    refused = click.option(
        "--no-repair", is_flag=True, help="Refuse a damaged bundle, even where parity of it is there."
    )
    return named(refused(with_parity))
