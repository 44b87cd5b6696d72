"""Signals that ask a command to end: it ends as at Ctrl-C, and gives back what it has.

By default SIGTERM (of a scheduler, a service manager, `timeout`) and SIGHUP (of a closed terminal) end a process where
it stands: temporary folders stay, and so do programs that it started.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ASKING = ("SIGTERM", "SIGHUP")


class Ended(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        number: The signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def end_when_asked() -> Iterator[None]:
    """Raise `Ended` in the main thread at the first signal that comes while the block runs.

    What is ignored already stays so, as under nohup. Later ones change nothing: a closed terminal sends two.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def end(number: int, _: object) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise Ended(number)

    numbers = [getattr(signal, name) for name in _ASKING if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
