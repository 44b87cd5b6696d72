"""Refuse empty values: ``--output-dir "$OUT"`` with an unset variable is a mistake.

`pathlib` reads an empty path as the working directory. Both commands of the project refuse it here, with the same
message and the exit code for wrong usage.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


def check_given(
    value: str | os.PathLike[str], param: click.Parameter | None = None, ctx: click.Context | None = None
) -> None:
    """Refuse an empty value.

    Raises:
        click.BadParameter: `value` is empty.
    """
    if not os.fspath(value):
        raise click.BadParameter("it is empty; is a variable in the command line empty?", ctx, param)


class GivenPath(click.Path):
    """A `click.Path` that refuses an empty value."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Refuse an empty value, then convert it as `click.Path` does."""
        check_given(value, param, ctx)
        return super().convert(value, param, ctx)
