"""What the trainer tells a person: lines on stderr, from one rank, so that stdout stays free for data."""

from __future__ import annotations

import os
import sys


def say(message: str) -> None:
    """Write a line to stderr, in global rank 0 only."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
