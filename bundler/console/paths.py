"""Paths and addresses as they are given, and never empty: ``--output-dir "$OUT"`` with an unset variable is a mistake.

`pathlib` reads an empty path as the working directory. Both commands of the project refuse it here, with the same
message and the exit code for wrong usage.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from bundler.remote.address import Address, is_address


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
        """Refuse an empty value and an address, then convert it as `click.Path` does."""
        check_given(value, param, ctx)
        if isinstance(value, str) and is_address(value):
            self.fail(
                f"{value!r} is an address, and this takes a path: bring it first (`bundle pull`)", param, ctx
            )
        return super().convert(value, param, ctx)


class OrAddress(click.Path):
    """What is put before a type of paths that takes addresses too."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return an address, or what the type of paths returns."""
        if isinstance(value, str) and is_address(value):
            return Address(value)
        return super().convert(value, param, ctx)


class GivenPlace(OrAddress, GivenPath):
    """A path, or the address of a bundle."""


class GivenAddress(click.ParamType[Address]):
    """The address of a bundle, and no path."""

    name = "ADDRESS"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Return an address, or refuse what is none."""
        if isinstance(value, Address):
            return value
        check_given(value, param, ctx)
        if not is_address(value):
            self.fail(f"{value!r}: expected an address such as oci://REGISTRY/NAME:TAG", param, ctx)
        return Address(value)
