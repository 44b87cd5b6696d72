"""Pass each request on to the Hub and its answer back, and note the files that were asked for.

Rule book:

* bytes go through as they are: nothing is decoded, stored or repeated, and tokens go where they would have gone;
* redirects to the Hub itself are turned to this door, so that what follows is seen too; others are left as they are,
  and their hosts are noted as the Hub's own: it sends clients there for content;
* a file counts as asked for when the Hub names its commit, whether its content was sent or the client had it already.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import httpx2
from starlette.types import Receive, Scope, Send

Note = Callable[[dict[str, object]], None]

# How long a connection to the Hub may take; the client has limits of its own for the rest.
_CONNECT_SECONDS = 30.0
_FILE = re.compile(r"/(?:(datasets|spaces|kernels)/)?([^/]+(?:/[^/]+)?)/(?:resolve|raw)/([^/]+)/(.+)")
# How the clients for Python and Rust call themselves.
_READS_CACHE = re.compile(r"hf_hub/|hf-hub/")
# RFC 9110, section 7.6.1: what is about one connection. The client of the Hub computes its own length.
_OF_ONE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
_OF_REQUEST = _OF_ONE_CONNECTION | {b"host", b"content-length"}


class Front:
    """The ASGI application.

    Args:
        upstream: The Hub's address.
        note: Takes a note, as its JSON object.
    """

    def __init__(self, upstream: str, note: Note) -> None:
        self._upstream = upstream.rstrip("/")
        self._note = note
        timeout = httpx2.Timeout(None, connect=_CONNECT_SECONDS)
        self._client = httpx2.AsyncClient(follow_redirects=False, timeout=timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        # A client that has gone would otherwise have its file loaded to the end, for nobody.
        passing = asyncio.create_task(self._pass_on(scope, body, send))
        gone = asyncio.create_task(_wait_until_gone(receive))
        done, _ = await asyncio.wait({passing, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in {passing, gone} - done:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if passing in done:
            passing.result()

    async def _pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        raw = scope.get("raw_path", scope["path"].encode())
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _OF_REQUEST]
        request = httpx2.Request(
            scope["method"], f"{self._upstream}{(raw + query).decode('latin-1')}", headers=headers, content=body
        )
        try:
            answer = await self._client.send(request, stream=True)
        except httpx2.HTTPError as error:
            self._note({"kind": "fault", "text": f"the Hub could not be asked: {error!r}"[:500]})
            await _refuse(send, str(error) or repr(error))
            return
        try:
            self._note_answer(raw.decode("latin-1"), answer)
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status_code,
                    "headers": [
                        (name.lower(), self._turn_here(name, value, host))
                        for name, value in answer.headers.raw
                        if name.lower() not in _OF_ONE_CONNECTION
                    ],
                }
            )
            async for chunk in answer.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    def _turn_here(self, name: bytes, value: bytes, host: str) -> bytes:
        """Return a header in which addresses of the Hub are those of this door."""
        if name.lower() not in (b"location", b"link"):
            return value
        text = value.decode("latin-1").replace(self._upstream, f"http://{host}")
        prefix = urlsplit(self._upstream).path
        if name.lower() == b"location" and prefix and text.startswith(f"{prefix}/"):
            text = text.removeprefix(prefix)
        return text.encode("latin-1")

    def _note_answer(self, path: str, answer: httpx2.Response) -> None:
        location = answer.headers.get("location", "")
        for address in (location, answer.headers.get("x-xet-cas-url", "")):
            if (host := urlsplit(address).hostname) and not address.startswith(self._upstream):
                self._note({"kind": "hub_host", "host": host})
        found = _FILE.fullmatch(path)
        commit = answer.headers.get("x-repo-commit", "")
        is_renamed = bool(_FILE.fullmatch(urlsplit(location).path)) and answer.status_code < 400
        if found and answer.status_code < 400 and (commit or is_renamed):
            section, name, revision, file = found.groups()
            repo_type, repo_id = (section or "models").removesuffix("s"), unquote(name)
            client = answer.request.headers.get("user-agent", "")
            if not _READS_CACHE.search(client):
                # It has no cache to look into when there is no Hub.
                self._note({"kind": "http", "repo": f"{repo_type} {repo_id}", "client": client.partition(" ")[0]})
            self._note(
                {
                    "kind": "file",
                    "repo_type": repo_type,
                    "repo_id": repo_id,
                    "revision": unquote(revision),
                    "commit": commit,
                    # Where the name led elsewhere, nobody said yet whether there is such a file.
                    "path": unquote(file) if commit else "",
                }
            )


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, message: str) -> None:
    body = json.dumps({"error": f"the Hub could not be asked: {message}"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 502, "headers": headers})
    await send({"type": "http.response.body", "body": body})
