"""Kinds of numbers that options take."""

from __future__ import annotations

import math
from typing import Any

import click

from infini_llama.settings.sections import MOST_SEED

SEED = click.IntRange(0, MOST_SEED)


class RealRange(click.FloatRange):
    """A number in a range; `nan`, which compares with none, is not in it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number
