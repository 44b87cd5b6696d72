"""How the stages of `bundle lock` and `bundle fetch` show on a terminal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bundler.console.output import progress_bar, say
from bundler.make.observer import Observer, Stage


class ConsoleObserver(Observer):
    """Says on stderr what begins and what is unusual, and draws a bar for what is measured.

    A context manager: leaving it takes the bar away.

    Attributes:
        notes: What `note` was told.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._bar = contextlib.ExitStack()
        self._advance: Callable[[int], None] = _show_nothing
        # tqdm's counter is not made for several threads.
        self._mutex = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_bar_away()

    def begin(self, stage: Stage, text: str, size_bytes: int = 0) -> None:
        """See `Observer`."""
        self._take_bar_away()
        say(text)
        if size_bytes:
            self._advance, _ = self._bar.enter_context(progress_bar(stage, size_bytes))

    def progress(self, count: int) -> None:
        """See `Observer`."""
        with self._mutex:
            self._advance(count)

    def note(self, text: str) -> None:
        """See `Observer`."""
        self.notes.append(text)
        say(f"note: {text}")

    def warn(self, text: str) -> None:
        """See `Observer`."""
        say(f"warning: {text}")

    def _take_bar_away(self) -> None:
        # A download that was told to stop may report once more.
        with self._mutex:
            self._advance = _show_nothing
            self._bar.close()


def _show_nothing(count: int) -> None:
    """Take the place of a bar."""
