"""`OUTPUT/stopped.json`: that a run was stopped by a signal, and is to be resumed.

A job script that finds it puts the job back into the queue. The next run takes it away before anything else, so that
whatever fails then does not look like one more stop.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

from bundler.files.atomic import atomic_write

NAME = "stopped.json"


def write_stop_note(output_dir: Path, stopped_by: signal.Signals, checkpoint: Path) -> None:
    """Leave a note of the signal and of the checkpoint to go on from."""
    record = {"signal": stopped_by.name, "checkpoint": checkpoint.name}
    atomic_write(output_dir / NAME, (json.dumps(record) + "\n").encode())


def remove_stop_note(output_dir: Path) -> None:
    """Take the note of an earlier run away, if there is one."""
    (output_dir / NAME).unlink(missing_ok=True)
