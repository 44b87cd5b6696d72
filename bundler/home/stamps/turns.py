"""One launch of a user hashes a bundle, and others that start meanwhile wait for its word: the stamps that it takes.

A job starts a launch on each of its nodes, at once. Where they share the user's folder of stamps, the kernel's lock on
a file in it holds from node to node, and ends with its holder. Nobody waits for ever, nor without a word.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bundler.home.kernel_lock import wait_for_lock

# Less than this is hashed faster than anybody's word comes.
WORTH_WAITING_BYTES = 64 << 20
_LEAST_PATIENCE_SECONDS = 60
# What the slowest storage gives: who takes longer has most likely stopped.
_SLOWEST_BYTES_PER_SECOND = 20 << 20


def patience_seconds(size_bytes: int) -> float:
    """Return how long the word of one that hashes so many bytes is waited for."""
    return _LEAST_PATIENCE_SECONDS + size_bytes / _SLOWEST_BYTES_PER_SECOND


@contextlib.contextmanager
def take_turn(path: Path, *, what: str, seconds: float, on_note: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other launch holds the turn, and hold it while the block runs.

    Where the file system has no locks, and where the time is up, the block runs all the same: whoever waited in vain
    does the work himself.

    Args:
        path: The lock file; it is made where it is missing, and stays.
        what: What is about to be hashed, for people.
        seconds: How long to wait.
        on_note: Told that, and for whom, it waits, and of a wait in vain.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        yield  # Nor can stamps be written there, which is said elsewhere.
        return
    try:
        _wait(descriptor, what, seconds, on_note)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, what: str, seconds: float, on_note: Callable[[str], None]) -> None:
    def say_so() -> None:
        on_note(f"waiting for another launch of yours, which verifies {what}; for {seconds:.0f} s at most")

    try:
        if not wait_for_lock(descriptor, on_wait=say_so, seconds=seconds):
            on_note(f"note: no word for {seconds:.0f} s: verifying {what} here too")
    except OSError as error:
        on_note(f"note: no locks in the folder of stamps ({error.strerror}): each launch verifies {what} itself")
