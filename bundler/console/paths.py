"""Values that are given, and not empty: ``--output-dir "$OUT"`` with an unset variable is a mistake, not a wish.

`pathlib` takes an empty path for the working directory. Both CLIs of the project refuse it here, in the same words and
with the exit code of wrong usage.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


def check_given(
    value: str | os.PathLike[str], param: click.Parameter | None = None, ctx: click.Context | None = None
) -> None:
    """Refuse a value that is empty.

    Raises:
        click.BadParameter: It is.
    """
    if not os.fspath(value):
        raise click.BadParameter("it is empty; is a variable in the command line empty?", ctx, param)


class GivenPath(click.Path):
    """A path, as `click.Path` checks it, that is not empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """See `click.ParamType`."""
        check_given(value, param, ctx)
        return super().convert(value, param, ctx)
