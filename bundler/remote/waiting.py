"""Waiting for another machine or program: for so long at most, and not without a word.

What is said goes to the logger `bundler.remote`; without a handler for it, Python writes that to standard error.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterator

NOTE_SECONDS = 10.0
_LOGGER = logging.getLogger("bundler.remote")


def note(text: str) -> None:
    """Tell whoever looks on what is waited for."""
    _LOGGER.warning("note: %s", text)


@contextlib.contextmanager
def watch(
    what: str, *, most_seconds: float = math.inf, give_up: Callable[[], None] | None = None
) -> Iterator[None]:
    """Say what the block waits for when that takes long, and end it when it takes too long.

    Args:
        what: What is waited for.
        most_seconds: How long at most, where there is `give_up`.
        give_up: Makes the block end with an error; called from another thread.

    Raises:
        TimeoutError: It took longer.
    """
    is_done, mutex = threading.Event(), threading.Lock()
    is_given_up = False

    def look() -> None:
        nonlocal is_given_up
        first = min(NOTE_SECONDS, most_seconds)
        if is_done.wait(first):
            return
        note(f"waiting for {what}")
        if give_up is None or is_done.wait(most_seconds - first):
            return
        with mutex:
            # What has come in the very last moment is taken.
            if not is_done.is_set():
                is_given_up = True
                give_up()

    threading.Thread(target=look, name="watch", daemon=True).start()
    try:
        yield
    except Exception as error:
        with mutex:
            is_done.set()
        if is_given_up:
            raise TimeoutError(f"no answer within {most_seconds:.0f} s") from error
        raise
    finally:
        with mutex:
            is_done.set()
    if is_given_up:
        raise TimeoutError(f"no answer within {most_seconds:.0f} s")
