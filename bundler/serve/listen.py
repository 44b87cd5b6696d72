"""A socket that listens, the address that clients use for it, and serving on it until a signal."""

from __future__ import annotations

import ipaddress
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from bundler.errors import UsageError
from bundler.serve.patience import PatientProtocol

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


def endpoint_of(listener: socket.socket, *, scheme: str = "http") -> str:
    """Return the address for clients; for one that means every interface, the one that works on this machine."""
    address, port = listener.getsockname()[:2]
    if ipaddress.ip_address(address).is_unspecified:
        address = "::1" if ":" in address else "127.0.0.1"
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Tell whether only this machine can reach the socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


@dataclass(frozen=True)
class Certificate:
    """What a server proves its name with.

    Attributes:
        chain: PEM file of the certificate, and of those between it and its authority.
        key: PEM file of its private key.
    """

    chain: Path
    key: Path

    def check(self) -> None:
        """Make sure that both can be used.

        Raises:
            UsageError: They cannot.
        """
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.chain, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--tls-cert {self.chain} and --tls-key {self.key}: expected a certificate and its key as PEM files, "
                f"without a password: {error}"
            ) from error


def _no_password() -> str:
    raise ValueError("the key has a password")


def serve_until_signal(
    app: ASGIApp,
    listener: socket.socket,
    *,
    certificate: Certificate | None = None,
    when_ready: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM; downloads under way get a moment to finish.

    Args:
        app: What answers.
        listener: What `open_listener` returned.
        certificate: For TLS; None for plain HTTP.
        when_ready: Called once connections are accepted.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            when_ready()

    # Logging is the caller's: uvicorn's own settings would write requests to stdout.
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=certificate.chain if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
    )
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
