"""Note a refused connection for `attempts`, which reads the notes of all processes of a launch.

The guard loads this as it loads `caller`, when there is something to note: the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def note_attempt(folder: str, attempt: dict[str, Any]) -> None:
    """Add an attempt of this process, as its JSON object, to the notes in `folder`."""
    line = json.dumps(attempt) + "\n"
    try:
        # One write to a file opened for appending: threads and a process of the same number elsewhere do not mix.
        descriptor = os.open(
            f"{folder}/{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        # The refusal matters more than its record, but a record that is missing must be known.
        sys.stderr.write(f"bundle: could not note a refused connection in {folder}: {error}\n")
