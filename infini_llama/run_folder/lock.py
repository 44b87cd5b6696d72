"""Lock an output folder for one run: two runs would overwrite each other's checkpoints.

Two runs can meet when a job is requeued before the last one has ended, or is submitted twice. The lock is a flock on
the file `OUTPUT/.lock`; the kernel releases it when the process ends, however it ends. The file stays, and has no
meaning.

`filelock` is not used: older versions, which the Hub's client accepts, pass the lock to forked workers, and it does not
report that a file system has no locks.
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
    """Lock `output_dir` for this run while the block runs; a missing folder is created.

    Raises:
        UsageError: Another run has the lock.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(output_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"--output-dir {output_dir}: another run trains in it, on this machine or another",
            hint="wait until it ends, or stop it; with another --output-dir both can run",
        ) from None
    except OSError as error:
        say(
            f"note: {output_dir}: its file system has no locks ({error.strerror}): start only one run at a time in it"
        )
    held = [descriptor]

    def close() -> None:
        while held:
            os.close(held.pop())

    # Close it in forked workers: one that ends after its killed run must not keep the lock from the next run.
    os.register_at_fork(after_in_child=close)
    try:
        yield
    finally:
        close()
