"""Messages of the trainer for people: lines on stderr, from one rank only; stdout is for data.

On a terminal a progress bar is shown below the lines while a run trains.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class ProgressBar:
    """A progress bar of a run's steps, in one rank; nothing is shown if stderr is not a terminal.

    Args:
        total: Number of steps of the whole run.
        done: Number of steps that an earlier process did.
    """

    def __init__(self, *, total: int, done: int) -> None:
        self._bar: Any = None
        if sys.stderr.isatty() and os.environ.get("RANK", "0") == "0":
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=done, desc="training", bar_format=_BAR, dynamic_ncols=True, file=sys.stderr
            )

    def advance(self, step: int) -> None:
        """Show that a step is done."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def show(self, measured: str) -> None:
        """Show the latest measurements beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(measured)

    def close(self) -> None:
        """Stop updating the bar, and leave it on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def format_seconds(seconds: float) -> str:
    """Return a duration for people: its two largest units, such as `2 h 05 min` or `1 d 03 h`."""
    left = round(seconds)
    if left < 60:
        return f"{left} s"
    for larger, smaller, unit in ((86400, 3600, ("d", "h")), (3600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if left >= larger:
            return f"{left // larger} {unit[0]} {left % larger // smaller:02} {unit[1]}"
    raise AssertionError(seconds)


def say(message: str) -> None:
    """Write a line to stderr, above the bar if there is one; in global rank 0 only."""
    if os.environ.get("RANK", "0") != "0":
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(message, file=sys.stderr)
    else:
        sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
