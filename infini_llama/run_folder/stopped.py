"""The note `OUTPUT/stopped.json`: a signal stopped the run, and it should be resumed.

A job script that finds the note puts the job back into the queue. The next run deletes it first of all, so that a later
failure does not look like another stop.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

from bundler.files.atomic import atomic_write

NAME = "stopped.json"


def write_stop_note(output_dir: Path, stopped_by: signal.Signals, checkpoint: Path) -> None:
    """Write the note, with the signal and the checkpoint to continue from."""
    record = {"signal": stopped_by.name, "checkpoint": checkpoint.name}
    atomic_write(output_dir / NAME, (json.dumps(record) + "\n").encode())


def remove_stop_note(output_dir: Path) -> None:
    """Delete the note of an earlier run, if there is one."""
    (output_dir / NAME).unlink(missing_ok=True)
