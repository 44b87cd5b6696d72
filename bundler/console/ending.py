"""Signals that ask a command to end: it ends as at Ctrl-C, and gives back what it has.

By default SIGTERM (of a scheduler, a service manager, `timeout`) and SIGHUP (of a closed terminal) end a process where
it stands: temporary folders stay, and so do programs that it started.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ASKING = ("SIGTERM", "SIGHUP")
_AGAIN_SECONDS = 0.05


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

    What is ignored already stays so, as under nohup. Later ones change nothing: a closed terminal sends two. One that
    comes where Python prints errors and goes on, as while it frees an object, is sent again; so is Ctrl-C there.
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

    def pass_over(unraisable: sys.UnraisableHookArgs) -> None:
        nonlocal asked
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            print_unraisable(unraisable)
            return
        asked = False
        number = unraisable.exc_value.number if isinstance(unraisable.exc_value, Ended) else signal.SIGINT
        # By another thread: here it would be lost again.
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    numbers = [getattr(signal, name) for name in _ASKING if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    print_unraisable, sys.unraisablehook = sys.unraisablehook, pass_over
    try:
        yield
    finally:
        sys.unraisablehook = print_unraisable
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
