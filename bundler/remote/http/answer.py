"""An answer of a web server: its bytes as they come, for as long as they come at all."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bundler.errors import RemoteError
from bundler.remote.address import show
from bundler.remote.waiting import watch

# What a connection must bring, looked at when it was waited for that long; a time-out accepts a byte now and then.
LEAST_BYTES_PER_SECOND = 1000
WATCHED_SECONDS = 30.0
# What an answer's head may take, however it comes, and an answer that is read whole.
HEAD_SECONDS = 60.0
SHORT_SECONDS = 60.0
# What is short enough to be read, so that its connection can be used again.
_SHORT_BYTES = 64 << 10
# What a connection raises that breaks.
BROKEN = (OSError, http.client.HTTPException)


class Answer:
    """An answer, of which nothing was read yet; close it, or use it as a context manager.

    Args:
        connection: Where a request was just sent.
        url: What was asked for.
        give_back: Called with the address and a connection that can be used again.

    Attributes:
        url: Where it came from, after redirects.
        status: The status code.
        headers: Its headers.
    """

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        url: str,
        give_back: Callable[[str, http.client.HTTPConnection], None],
    ) -> None:
        self._connection, self._give_back = connection, give_back
        with watch_head(connection, url):
            self._response = connection.getresponse()
        self._waited, self._received = 0.0, 0
        self.url = url
        self.status = self._response.status
        self.headers = self._response.headers

    def header(self, name: str) -> str:
        """Return a header, or an empty text."""
        # A long header may be folded over lines (RFC 9112, section 5.2), which no message and no request shows.
        return re.sub(r"[\x00-\x1f\x7f]+", " ", str(self.headers.get(name, ""))).strip()

    def readinto(self, buffer: memoryview, /) -> int:
        """Read some bytes into `buffer`; return 0 at the end.

        Raises:
            TimeoutError: The connection brings next to nothing.
        """
        before = time.monotonic()
        count = self._read_some(buffer)
        self._watch(count, time.monotonic() - before)
        return count

    def _read_some(self, buffer: memoryview) -> int:
        """Read what one look at the connection brings: the library fills all of `buffer`, however slowly that comes."""
        response = self._response
        if response.chunked or response.length is None:
            block = response.read1(len(buffer))
            buffer[: len(block)] = block
            return len(block)
        if response.isclosed():
            return 0
        count = response.fp.readinto1(buffer[: response.length])
        response.length -= count
        if not response.length:
            # The library notices that this was all, and that the connection can be used again.
            response.readinto(memoryview(bytearray()))
        return count

    def read_arrived(self, most_bytes: int) -> bytes:
        """Read what has arrived, at least a byte; nothing at the end.

        Raises:
            TimeoutError: As `readinto`.
        """
        before = time.monotonic()
        block = self._response.read1(most_bytes)
        self._watch(len(block), time.monotonic() - before)
        return block

    def _watch(self, count: int, waited: float) -> None:
        # What others do with the bytes is no waiting for the network.
        self._waited += waited
        self._received += count
        if self._waited >= WATCHED_SECONDS:
            if count and self._received < LEAST_BYTES_PER_SECOND * self._waited:
                raise TimeoutError(f"it brought {self._received:,} bytes in {self._waited:.0f} s")
            self._waited, self._received = 0.0, 0

    def read(self, most_bytes: int) -> bytes:
        """Read all of the answer.

        Raises:
            RemoteError: It is longer than `most_bytes`.
            ConnectionError: It ended early.
            TimeoutError: As `readinto`; or it took longer than `SHORT_SECONDS`.
        """
        content, begin = bytearray(), time.monotonic()
        while block := self.read_arrived(most_bytes + 1 - len(content)):
            content += block
            if len(content) > most_bytes:
                raise RemoteError(
                    f"{show(self.url)}: expected at most {most_bytes:,} bytes in its answer, found more"
                )
            if (seconds := time.monotonic() - begin) > SHORT_SECONDS:
                raise TimeoutError(f"it brought {len(content):,} bytes in {seconds:.0f} s")
        if self._response.length:
            raise ConnectionError(f"it ended {self._response.length:,} bytes early")
        return bytes(content)

    def close(self) -> None:
        """Give the connection back; one on which something is left to read is closed."""
        with contextlib.suppress(*BROKEN):
            left = self._response.length
            if not self._response.isclosed() and left is not None and left <= _SHORT_BYTES:
                self._response.read()
        if self._response.isclosed() and not self._response.will_close:
            self._give_back(self.url, self._connection)
        else:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._connection.close()


def watch_head(connection: http.client.HTTPConnection, url: str) -> contextlib.AbstractContextManager[None]:
    """Give up a server that does not get to the end of what it says first: each line may come byte by byte."""

    def give_up() -> None:
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    return watch(show(url), most_seconds=HEAD_SECONDS, give_up=give_up)
