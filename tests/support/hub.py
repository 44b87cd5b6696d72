"""A real Hub for tests: the server of `bundle serve` on loopback, with a log of requests and faults on demand.

    with RunningHub(folder) as hub:
        hub.fault("drop", "model.safetensors", after_bytes=1000)
        run_python("...", env=hub.environment(tmp_path / "hf"))
        assert [r.status for r in hub.requests if r.path.endswith("model.safetensors")] == [200, 200, 206]

The faults are made between the application and uvicorn, so a client meets them as bytes on a real socket.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bundler.serve.server import create_app
from bundler.serve.sources import open_source

FaultKind = Literal["drop", "corrupt", "hang", "drip", "status", "rate_limit", "gated"]


@dataclass
class LoggedRequest:
    """One request that the Hub saw.

    Attributes:
        method: GET, HEAD, …
        path: Decoded path, without the query.
        query: The query string.
        headers: By lower-case name.
        status: Of the answer; None while there is none.
        body_bytes: How much of a body was sent.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    status: int | None = None
    body_bytes: int = 0


@dataclass(frozen=True)
class Answer:
    """What `RunningHub.ask` got: status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Fault:
    """Something that goes wrong with the requests it matches.

    Attributes:
        kind: `drop` ends the connection after `after_bytes` of the body; `corrupt` flips a bit of the body's byte
            `at`, same length; `hang` stops answering after `after_bytes` of the body, or at once when None, until
            `RunningHub.release`; `drip` goes on after `after_bytes` of the body with a byte now and then; `status`
            answers with `status`; `rate_limit` with 429 and `Retry-After`; `gated` as for a repo that needs a token.
        path_suffix: Requests whose decoded path ends so.
        times: How often; None for always.
        methods: Which methods it applies to.
        taken: How often it happened.
    """

    kind: FaultKind
    path_suffix: str
    times: int | None = 1
    methods: tuple[str, ...] = ("GET",)
    after_bytes: int | None = None
    at: int = 0
    status: int = 500
    retry_after: str = "1"
    taken: int = 0


@dataclass
class _Faulty:
    """ASGI middleware: logs requests and makes faults."""

    app: ASGIApp
    requests: list[LoggedRequest] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        record = LoggedRequest(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        )
        with self.lock:
            self.requests.append(record)
            fault = self._next_fault(record)

        async def logged_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            elif record.method != "HEAD":
                record.body_bytes += len(message.get("body", b""))
            await send(message)

        if fault is None:
            await self.app(scope, receive, logged_send)
        elif fault.kind in ("status", "rate_limit", "gated"):
            await _refuse(fault, logged_send)
        elif fault.kind == "hang" and fault.after_bytes is None:
            await self.released.wait()
            await self.app(scope, receive, logged_send)
        else:
            await self._spoil(fault, scope, receive, logged_send)

    def _next_fault(self, record: LoggedRequest) -> Fault | None:
        for fault in self.faults:
            is_due = fault.times is None or fault.taken < fault.times
            if is_due and record.method in fault.methods and record.path.endswith(fault.path_suffix):
                fault.taken += 1
                return fault
        return None

    async def _spoil(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the answer on, but for what the fault does to its body."""
        sent = 0

        async def spoiling_send(message: Message) -> None:
            nonlocal sent
            if message["type"] != "http.response.body":
                await send(message)
                return
            body = bytearray(message.get("body", b""))
            if fault.kind == "corrupt" and sent <= fault.at < sent + len(body):
                body[fault.at - sent] ^= 1
            limit = fault.after_bytes or 0
            if fault.kind != "corrupt" and sent + len(body) > limit:
                await send({**message, "body": bytes(body[: limit - sent]), "more_body": True})
                if fault.kind == "drop":
                    raise _DroppedError
                body = body[limit - sent :]
                while fault.kind == "drip" and len(body) > 1 and not self.released.is_set():
                    await send({**message, "body": bytes(body[:1]), "more_body": True})
                    body = body[1:]
                    await asyncio.sleep(0.01)
                await self.released.wait()
            sent += len(body)
            await send({**message, "body": bytes(body)})

        try:
            await self.app(scope, receive, spoiling_send)
        except _DroppedError:
            # uvicorn closes the connection of an answer that ends before its announced length.
            return


class _DroppedError(Exception):
    pass


async def _refuse(fault: Fault, send: Send) -> None:
    status, headers = fault.status, {}
    if fault.kind == "rate_limit":
        status, headers = 429, {"Retry-After": fault.retry_after}
    elif fault.kind == "gated":
        status, headers = 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
    body = json.dumps({"error": f"made by the test: {fault.kind}"}).encode()
    headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class _Server(uvicorn.Server):
    """A uvicorn that tells when it accepts connections, and from which event loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.ready.set()


class RunningHub:
    """A Hub on a free loopback port, in a thread of this process, for as long as the `with` block lasts.

    Args:
        content: A folder or bundle that `bundle serve` takes, or a ready ASGI application.
        page_size: Most entries in one page of a listing.
    """

    def __init__(self, content: Path | ASGIApp, *, page_size: int = 1000) -> None:
        app = create_app(open_source(content), page_size=page_size) if isinstance(content, Path) else content
        self._faulty = _Faulty(app)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            self._faulty,
            log_config=None,
            lifespan="off",
            access_log=False,
            # An answer that is cut off on purpose is not worth an error in the log.
            log_level=logging.CRITICAL,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._server.ready.wait(timeout=60):
            raise RuntimeError("the test's Hub did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.should_exit = True
        self._thread.join(timeout=60)
        self._socket.close()

    @property
    def endpoint(self) -> str:
        """What `HF_ENDPOINT` is set to."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def requests(self) -> list[LoggedRequest]:
        """What was asked so far, oldest first."""
        with self._faulty.lock:
            return list(self._faulty.requests)

    def asked(self, method: str, path_suffix: str = "") -> list[LoggedRequest]:
        """Return the requests of a method whose path ends in `path_suffix`."""
        return [r for r in self.requests if r.method == method and r.path.endswith(path_suffix)]

    def fault(
        self,
        kind: FaultKind,
        path_suffix: str,
        *,
        times: int | None = 1,
        methods: Sequence[str] | None = None,
        **details: Any,
    ) -> Fault:
        """Make the next `times` matching requests go wrong (None: all of them); see `Fault`.

        Without `methods`, faults of the body meet GET, the others GET, HEAD and POST.
        """
        if methods is None:
            of_body = kind in ("drop", "corrupt") or details.get("after_bytes") is not None
            methods = ("GET",) if of_body else ("GET", "HEAD", "POST")
        fault = Fault(kind=kind, path_suffix=path_suffix, times=times, methods=tuple(methods), **details)
        with self._faulty.lock:
            self._faulty.faults.append(fault)
        return fault

    def ask(
        self, method: str, raw_path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send one request as it stands: nothing in `raw_path` is encoded or tidied up, no redirect is followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self._socket.getsockname()[1], timeout=60)
        try:
            connection.putrequest(method, raw_path, skip_accept_encoding=True)
            fields = {**(headers or {}), **({"Content-Length": str(len(body))} if body is not None else {})}
            for name, value in fields.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)
        finally:
            connection.close()

    def release(self) -> None:
        """Let requests that hang go on."""
        if self._server.loop and self._thread.is_alive():
            self._server.loop.call_soon_threadsafe(self._faulty.released.set)

    def clear(self) -> None:
        """Forget the requests and faults so far."""
        with self._faulty.lock:
            self._faulty.requests.clear()
            self._faulty.faults.clear()
            self._faulty.released = asyncio.Event()

    def environment(self, hf_home: Path, **more: str) -> dict[str, str]:
        """Return the variables with which a child process uses this Hub and the cache `hf_home`."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(hf_home), **more}
