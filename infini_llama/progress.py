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

    def show(self, *, loss: float, tokens_per_second: float, rss_bytes: int) -> None:
        """Show the latest measurements."""
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {loss:.4f}, {tokens_per_second:,.0f} tokens/s, {rss_bytes / 2**30:.2f} GiB"
            )

    def close(self) -> None:
        """Stop updating the bar, and leave it on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


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
