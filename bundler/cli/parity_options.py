"""Options that say what parity of a bundle is made, and what is rebuilt from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.console.output import progress_bar, say
from bundler.console.paths import GivenPath
from bundler.text.wording import counted, name_some, size

if TYPE_CHECKING:
    from bundler.parity.make import ParityMade


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


def check_parity(share: Fraction | None, *, has_files: bool = True) -> None:
    """Refuse, before anything is made, what could not be done at its end.

    Raises:
        click.UsageError: The bundle goes where no file can stand beside it.
        DependencyError: The package for the code is not installed.
    """
    if share is None:
        return
    if not has_files:
        raise click.UsageError(
            "--parity writes files beside the bundle, and a pipe or an address has none: write the bundle to a file, "
            "or make parity with `bundle parity` where it arrives"
        )
    from bundler.parity.code import load_code

    load_code()


def write_parity(paths: Sequence[Path], share: Fraction | None, *, keep: bool) -> ParityMade | None:
    """Write parity of a bundle, and say so; None where no share is asked for.

    Args:
        paths: The bundle: its file, or its volumes.
        share: As of `bundler.parity.make.make_parity`.
        keep: As of `make_parity`.
    """
    if share is None:
        return None
    from bundler.parity.bundle import make_bundle_parity

    with progress_bar("making parity") as (advance, set_total):
        made = make_bundle_parity(paths, share, keep=keep, on_total=set_total, progress=advance)
    there = ", there already, hashed again" if made.was_there else ""
    say(
        f"{counted(len(made.files), 'file')} of parity, {size(made.size_bytes)}, for {float(share):.4g} of the bundle"
        f"{there}: {name_some([path.name for path in made.files], shown=3, total=len(made.files))}"
    )
    if made.replaced:
        say(f"replaced older parity: {', '.join(path.name for path in made.replaced)}")
    return made


def parity_files(made: ParityMade | None) -> list[str]:
    """Return the files as JSON has them."""
    return [str(path) for path in made.files] if made else []


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
