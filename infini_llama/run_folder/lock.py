"""One run at a time in an output folder: two would write their checkpoints over each other.

It happens when a job is requeued while its last one still ends, or is submitted twice. The lock is the kernel's, on
the file `OUTPUT/.lock`, and gone with the process however that ends; the file stays, and means nothing.

Not by `filelock`: its older versions, which the Hub's client accepts, leave the lock to forked workers, and it says
nothing where a file system has no locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bundler.errors import UsageError
from infini_llama.progress import say

LOCK_NAME = ".lock"


@contextlib.contextmanager
def run_lock(output_dir: Path) -> Iterator[None]:
    """Hold the right to train in `output_dir` while the block runs; the folder is made when missing.

    Raises:
        UsageError: Another process has it.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(output_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"--output-dir {output_dir}: another run trains in it, on this machine or another",
            hint="wait until it has ended, or end it; with another --output-dir both can run",
        ) from None
    except OSError as error:
        say(f"note: {output_dir}: its file system has no locks ({error.strerror}): start one run at a time in it")
    held = [descriptor]

    def close() -> None:
        while held:
            os.close(held.pop())

    # A worker that outlives a killed run by a moment must not hold the lock against the next one.
    os.register_at_fork(after_in_child=close)
    try:
        yield
    finally:
        close()
