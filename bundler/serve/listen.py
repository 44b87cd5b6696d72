"""A socket that listens, the address that clients use for it, and serving on it until a signal."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from bundler.errors import UsageError

# How long a signal waits for downloads that are under way.
_GRACE_SECONDS = 3


def open_listener(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a socket that listens; the caller closes it.

    Args:
        host: A name or address of this machine.
        port: 0 takes a free one.

    Raises:
        UsageError: The system does not give the address.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
        # Head and body of an answer are two writes: without this, Nagle's algorithm and delayed acknowledgements
        # hold the second one back for 40 ms. Accepted connections inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror}",
            hint="choose another --port, or 0 for a free one",
        ) from error


def endpoint_of(listener: socket.socket) -> str:
    """Return the address for clients; for one that means every interface, the one that works on this machine."""
    address, port = listener.getsockname()[:2]
    if ipaddress.ip_address(address).is_unspecified:
        address = "::1" if ":" in address else "127.0.0.1"
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Tell whether only this machine can reach the socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def serve_until_signal(app: Starlette, listener: socket.socket, *, when_ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; downloads under way get a moment to finish.

    Args:
        app: What answers.
        listener: What `open_listener` returned.
        when_ready: Called once connections are accepted.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            when_ready()

    # Logging is the caller's: uvicorn's own settings would write requests to stdout.
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=_GRACE_SECONDS)
    server = Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn puts its handlers over these and, once it has stopped, sends itself the signal again: to us, who end
    # the command with success, as being stopped is how it is meant to end.
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
