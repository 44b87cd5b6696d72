"""A bundle on its way to another machine while it is being made: through a pipe, so that it is stored nowhere here.

The sending begins with the first byte of the bundle, since hours may pass before that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from bundler.errors import OutputError
from bundler.format.storage.destinations import PipeDestination

_BLOCK_BYTES = 1 << 20
_STOP_SECONDS = 1.0

# Sends what the iterator gives, to its end.
Send = Callable[[Iterator[bytes]], None]


class _GivenUpError(Exception):
    """The bundle will not be finished."""


class _Upload(PipeDestination):
    """A pipe that is read as soon as it is written to, and not before: a proof forks, which no thread should see."""

    def __init__(self, descriptor: int, begin: Callable[[], None]) -> None:
        super().__init__(descriptor)
        self._begin = begin

    @contextlib.contextmanager
    def open(self) -> Iterator[PipeDestination]:
        """Begin the upload, and write to it (see `Destination`)."""
        self._begin()
        with super().open() as sink:
            yield sink


class PipedUpload:
    """What is written to `destination` is sent by a thread; a context manager that gives up what is not sent.

    Args:
        send: Called in the thread.

    Attributes:
        destination: Where to write the bundle to.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._error: BaseException | None = None
        self._is_given_up = False
        self._reading, self._writing = os.pipe()
        # Not on a Mac, and not where a user has many; a small one is slower, and no less right.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, _BLOCK_BYTES)
        self._thread: threading.Thread | None = None
        self.destination: PipeDestination = _Upload(self._writing, self._begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_given_up = True
        self._end_writing()
        if isinstance(error, OutputError) and self._error is not None:
            # Why nobody read on.
            raise self._error from error

    def wait(self) -> None:
        """Return when all that was written is sent.

        Raises:
            BundleError: What sending it ended with.
        """
        self._end_writing()
        if self._error is not None:
            raise self._error

    def _end_writing(self) -> None:
        if self._writing < 0:
            return
        os.close(self._writing)
        self._writing = -1
        if self._thread is None:
            os.close(self._reading)
        else:
            # Who has given up does not wait for a server that may have stopped reading.
            self._thread.join(_STOP_SECONDS if self._is_given_up else None)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._work, name="push", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._send(self._read())
        except _GivenUpError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            # Who writes learns of it.
            os.close(self._reading)

    def _read(self) -> Iterator[bytes]:
        while block := os.read(self._reading, _BLOCK_BYTES):
            yield block
        if self._is_given_up:
            raise _GivenUpError
