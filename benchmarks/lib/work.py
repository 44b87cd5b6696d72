"""The folder in which a benchmark makes everything."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks.lib import machine
from benchmarks.lib.measure import remove


@contextmanager
def work_folder(work: Path, needed_bytes: int) -> Iterator[Path]:
    """Yield the absolute path of a folder that is still to be made; remove it at the end, also at SIGTERM.

    What is started inside keeps its bytecode.

    Args:
        work: The folder.
        needed_bytes: What will be in it at most.

    Raises:
        ClickException: It is there, or has no room.
    """
    machine.keep_bytecode()
    work = work.absolute()
    if work.exists():
        raise click.ClickException(f"{work} exists: remove it, or name another folder with --work")
    machine.check_room(work, needed_bytes)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield work
    finally:
        remove(work)
