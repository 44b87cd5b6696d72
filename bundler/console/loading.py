"""Import modules without a look for garbage meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def load_without_collection() -> Iterator[None]:
    """Import in this block what a command needs, where its start is to be short.

    What modules make stays to the end of the process. To look through it for garbage, again and again while it grows
    and once more at the end, takes a fifth of what a launch adds. For the process of a command, which ends with it.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
