"""What a benchmark says in benchmarks/README.md: on what it was measured, and then its tables."""

from __future__ import annotations

import datetime
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lib import machine
from benchmarks.lib.marks import Marks

_DOCUMENT = Path(__file__).parents[1] / "README.md"
# What is measured here takes no more than one core.
_BUSY_FROM = 1.0


def circumstances(work: Path, load_before: Sequence[float], what: str) -> str:
    """Return sentences about the machine, how busy it was, and what was measured.

    Args:
        work: A folder on the file system that was measured.
        load_before: The load averages before the first measurement.
        what: Rounds, sizes and units.
    """
    known = machine.describe(work)
    date = datetime.datetime.now().astimezone().date()
    busy = (
        ""
        if load_before[0] < _BUSY_FROM
        else " **The machine was busy with other work: expect less on one that is not.**"
    )
    if busy and os.sched_getscheduler(0) != os.SCHED_OTHER:
        busy = " The machine was busy with other work, and what was measured went before it (`chrt`)."
    return (
        f"{date}, commit {known['commit']}. {known['cpu']}, {known['cores']} cores, {known['kernel']}, "
        f"{known['file_system']}, Python {known['python']}. {what}. Load averages (1, 5, 15 min): before "
        f"{' '.join(map(str, load_before))}; after {' '.join(map(str, machine.load()))}.{busy}"
    )


def spread(values: Sequence[float], unit: str = " s", digits: int = 2) -> str:
    """Return the median, and in brackets the least and the largest."""
    return f"**{statistics.median(values):.{digits}f}{unit}** [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def publish(marks: Marks, text: str, *, write: bool) -> None:
    """Print a section, and put it between its marks if asked.

    Raises:
        ValueError: benchmarks/README.md has no such place.
    """
    sys.stdout.write(f"{text}\n")
    if write:
        marks.write(_DOCUMENT, text)
