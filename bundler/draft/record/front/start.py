"""Start the door's process, and end it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bundler.errors import BundleError

_PATIENCE_SECONDS = 10


@contextlib.contextmanager
def open_front(upstream: str, notes: Path) -> Iterator[str]:
    """Open a door to a Hub for as long as the block lasts; yield its address.

    Args:
        upstream: The Hub's address.
        notes: File to which it adds notes.

    Raises:
        BundleError: It did not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "bundler.draft.record.front.process", upstream, str(notes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Out of the terminal's reach: what it stops is the command.
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if name != "BUNDLE_RECORD_DIR"},
    )
    assert process.stdin
    assert process.stdout
    try:
        address = process.stdout.readline().decode().strip()
        if not address:
            raise BundleError(f"the door to {upstream} did not open: its process ended with {process.wait()}")
        yield address
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
