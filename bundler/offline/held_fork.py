"""Fork with signals held back.

What a signal's handler raises while Python forks is lost: it runs in a hook whose errors Python only prints. And
between the fork and the block that waits for the child, or ends it, a child is nobody's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable


def fork_held() -> tuple[int, Iterable[int]]:
    """Fork this process, with all signals held back in both.

    Returns:
        The child's process id, 0 in the child; and what `release` takes.

    Raises:
        OSError: The system has no room for another process; nothing is held back.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return os.fork(), held
    except OSError:
        release(held)
        raise


def release(held: Iterable[int]) -> None:
    """Let signals through as before the fork; called where what they raise is met."""
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
