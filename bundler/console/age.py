"""An option's value that is a time since something."""

from __future__ import annotations

import datetime
import re

import click

_AGE = re.compile(r"([0-9]+)([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}


class Age(click.ParamType[datetime.timedelta]):
    """A time such as ``12h``, ``30d`` or ``4w``."""

    name = "AGE"

    def convert(
        self, value: str | datetime.timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime.timedelta:
        """See `click.ParamType`."""
        if isinstance(value, datetime.timedelta):
            return value
        match = _AGE.fullmatch(value.strip())
        if match is None:
            self.fail(f"{value!r}: expected hours, days or weeks, such as 12h, 30d or 4w", param, ctx)
        try:
            return datetime.timedelta(hours=int(match[1]) * _HOURS[match[2]])
        except OverflowError:
            self.fail(f"{value!r}: expected less than a million days", param, ctx)
