"""Connections that are not waited for: the HTTP protocol of uvicorn, with an end to what is slow.

Rule book:

* the head of a request has `HEAD_SECONDS` to arrive, whatever comes meanwhile;
* a client that takes next to nothing of its answer for `STALLED_SECONDS` is let go;
* an application finds what sends files in the scope of a request, where the connection can do that;
* there are no more connections than half of the files that this process may open. For one more, the one
  that has waited longest without a request makes room; where all have one, the new one is closed.

The body of a request has its own limits, in `server`.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from bundler.serve.file_sender import FileSender, StalledError, can_send_files
from bundler.serve.responses import FILES_EXTENSION
from bundler.serve.source import DirectContent

HEAD_SECONDS = 10.0
STALLED_SECONDS = 60.0


def most_connections() -> int:
    """Return how many connections this process can hold beside the files that it serves."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, soft // 2) if soft != resource.RLIM_INFINITY else 4096


class PatientProtocol(H11Protocol):
    """One connection; see the module's text."""

    # Of all connections of this process, those without a request in hand, the longest waiting first.
    _waiting: dict[PatientProtocol, None] = {}  # noqa: RUF012 -- shared on purpose

    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._application = self.app
        self.app = self._answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, if need be in place of another."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            oldest = next(iter(self._waiting), self)
            oldest._abort()
            if oldest is self:
                return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; the head of a request may be whole with it."""
        super().data_received(data)
        if self._has_request():
            self._stop_waiting()
        elif self._timer is None:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self._has_request():
            self._wait_for_head()

    def pause_writing(self) -> None:
        """Give a client that takes nothing a while."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALLED_SECONDS, self._abort)

    def resume_writing(self) -> None:
        """Go on with a client that has taken something."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give a request to the application, with what sends files."""
        if can_send_files(self.transport):
            scope["extensions"] = {**scope.get("extensions", {}), FILES_EXTENSION: _Files(self)}
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            # The server stops, and has waited long enough; that is nobody's fault.
            self._abort()
            await asyncio.sleep(0)

    def _has_request(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _wait_for_head(self) -> None:
        self._waiting[self] = None
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._abort)

    def _stop_waiting(self) -> None:
        self._waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort(self) -> None:
        self._stop_waiting()
        self.transport.abort()


class _Files(FileSender):
    """Sends files as a part of an answer, whose length was announced."""

    def __init__(self, protocol: PatientProtocol) -> None:
        super().__init__(protocol.transport, STALLED_SECONDS)
        self._protocol = protocol

    async def send(self, content: DirectContent, start: int, end: int) -> int:
        # What counts the bytes of an answer takes anything that has a length, and gives it back (h11's documentation,
        # "Support for sendfile()").
        try:
            self._protocol.conn.send_with_data_passthrough(h11.Data(data=_Length(end - start)))  # type: ignore[arg-type]
        except h11.LocalProtocolError as error:
            raise StalledError("the client is gone") from error
        return await super().send(content, start, end)


class _Length:
    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes

    def __len__(self) -> int:
        return self._size_bytes
