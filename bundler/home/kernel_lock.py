"""The kernel's lock on an open file, flock(2): it goes with its holder, however that ends."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


def wait_for_lock(descriptor: int, *, on_wait: Callable[[], None], seconds: float | None = None) -> bool:
    """Wait until no other process has the lock on a file, and take it.

    Args:
        descriptor: The open file; to close it gives the lock back.
        on_wait: Called once, if it has to be waited for.
        seconds: How long to wait; None for as long as it takes.

    Returns:
        Whether it was taken; False when the time is up.

    Raises:
        OSError: The file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
    else:
        return True
    if seconds is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    # The kernel waits for ever or not at all, and a signal would be the program's.
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE_SECONDS
    while time.monotonic() <= deadline:
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False
