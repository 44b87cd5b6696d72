"""Fuzzes `bundle serve`: bytes of a request, read by h11 as its server does, and answered by the whole application."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import h11
from starlette.types import ASGIApp

from bundler.serve.gatekeeper import Gatekeeper
from bundler.serve.server import create_app
from bundler.serve.sources.bundle import BundleSource
from tests.support.bundles import locked_repo, tiny_bundle

_FILES = {"config.json": b'{"a": 1}', "deep/er/vocab.txt": b"hello\n" * 99}


class Served:
    """A served bundle, and an event loop of its own.

    Args:
        folder: Where the bundle is made.
    """

    def __init__(self, folder: Path) -> None:
        repo = locked_repo("org/m", _FILES, aliases=["old"])
        bundle = tiny_bundle(folder, repo, contents=_FILES.values(), name="served")
        self._app: ASGIApp = Gatekeeper(create_app(BundleSource(bundle), page_size=2))
        self._loop = asyncio.new_event_loop()

    def __call__(self, data: bytes, folder: Path) -> None:
        """Answer a request; what h11 refuses is none. An answer is whole, and no server error."""
        connection = h11.Connection(h11.SERVER)
        try:
            connection.receive_data(data)
            head = connection.next_event()
            body = b""
            while isinstance(head, h11.Request) and isinstance(event := connection.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            return
        if isinstance(head, h11.Request):
            self._loop.run_until_complete(self._answer(head, body, connection))

    async def _answer(self, head: h11.Request, body: bytes, connection: h11.Connection) -> None:
        path, _, query = head.target.partition(b"?")
        # As uvicorn makes it (uvicorn.protocols.http.h11_impl).
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": head.http_version.decode(),
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 9),
            "scheme": "http",
            "method": head.method.decode("ascii"),
            "root_path": "",
            "path": _unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "headers": [(name.lower(), value) for name, value in head.headers],
        }
        sent: list[Any] = []

        coming = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not coming:
                await asyncio.Event().wait()  # A client that stays, and sends no more.
            return coming.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, *rest = sent
        assert start["type"] == "http.response.start", start
        assert start["status"] < 500, start
        assert rest, "no body"
        assert not rest[-1].get("more_body"), "the body does not end"
        # A header that h11 cannot send would end the connection without an answer.
        answer = h11.Response(status_code=start["status"], headers=start["headers"])
        if connection.our_state is h11.SEND_RESPONSE:
            connection.send(answer)


def _unquote(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)
