"""A request that several threads need and only one of them makes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from bundler.errors import BundleError

_Answer = TypeVar("_Answer")


class Once(Generic[_Answer]):
    """Asks when it is first needed; all who need it get the answer, or the error."""

    def __init__(self, ask: Callable[[], _Answer]) -> None:
        self._ask = ask
        self._mutex = threading.Lock()
        self._answers: list[_Answer] = []
        self._error: BundleError | None = None

    def result(self) -> _Answer:
        """Return the answer.

        Raises:
            BundleError: What asking raised, each time.
        """
        with self._mutex:
            if self._error is not None:
                raise self._error
            if not self._answers:
                try:
                    self._answers.append(self._ask())
                except BundleError as error:
                    self._error = error
                    raise
            return self._answers[0]
