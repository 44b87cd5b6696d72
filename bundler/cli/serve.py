"""`bundle serve`."""

from __future__ import annotations

import ipaddress
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.console.options import json_option
from bundler.console.output import say
from bundler.console.paths import GivenPath
from bundler.text.wording import counted

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from bundler.serve.source import Source

DEFAULT_PORT = 8470
# How long Ctrl-C waits for downloads that are under way.
_GRACE_SECONDS = 3


@click.command()
@click.argument("path", type=GivenPath())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--verbose", is_flag=True, help="Log every request to stderr.")
@json_option
def serve(path: Path, host: str, port: int, verbose: bool, as_json: bool) -> None:
    """Serve PATH as a read-only Hub, until Ctrl-C.

    PATH is a folder of repos (namespace/name/... for models, datasets/namespace/name/... for datasets), an
    installed cache (HF_HOME), or a bundle. The endpoint is printed to stdout once it accepts connections.

    A folder may have a hub.yaml, for what files alone cannot say:

    \b
      version: 1
      renames: {gpt2: openai-community/gpt2}               # an old name answers with a redirect
      gated: {org/secretive: [hf_reader]}                  # files need one of these tokens
      tags: {openai-community/gpt2: {v1.0: main}}          # other names of a branch's commit
      branches: {openai-community/gpt2: {dev: _branches/gpt2-dev}}    # folders, relative to hub.yaml

    Gating rehearses how clients meet a gated repo; it protects nothing.

    \b
    Example:
      bundle serve ./repos --port 0
      HF_ENDPOINT=http://127.0.0.1:8470 hf download openai-community/gpt2
    """
    from bundler.serve.server import create_app
    from bundler.serve.sources import open_source

    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("bundler").setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").setLevel(logging.INFO if verbose else logging.WARNING)
    source = open_source(path)
    with _listening_socket(host, port) as listener:
        address, bound_port = listener.getsockname()[:2]
        endpoint = _endpoint(address, bound_port)
        if not ipaddress.ip_address(address).is_loopback:
            say(
                f"WARNING: listening on {address}, not on loopback: everyone who can reach this machine can read "
                "every file of these repos. There is no encryption and no login."
            )
        _run(create_app(source), listener, lambda: _announce(endpoint, path, source, as_json))
    say("stopped")


def _listening_socket(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
        # Head and body of an answer are two writes: without this, Nagle's algorithm and delayed acknowledgements
        # hold the second one back for 40 ms. Accepted connections inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise click.UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Choose another --port, or 0 for a free one."
        ) from error


def _endpoint(address: str, port: int) -> str:
    """Return the address for clients; for one that means every interface, the one that works on this machine."""
    if ipaddress.ip_address(address).is_unspecified:
        address = "::1" if ":" in address else "127.0.0.1"
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _announce(endpoint: str, path: Path, source: Source, as_json: bool) -> None:
    repos = [{"repo_type": key.repo_type, "repo_id": key.repo_id} for key in source.repos()]
    say(
        f"serving {counted(len(repos), 'repo')} of {path}, read-only; Ctrl-C stops\n  export HF_ENDPOINT={endpoint}"
    )
    if as_json:
        # On one line, unlike a command that ends: a script reads it while this one goes on.
        click.echo(json.dumps({"endpoint": endpoint, "path": str(path), "repos": repos}, ensure_ascii=False))
    else:
        click.echo(endpoint)
    sys.stdout.flush()


def _run(app: Starlette, listener: socket.socket, when_ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; downloads under way get a moment to finish."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            when_ready()

    # Logging is ours: uvicorn's own settings would write requests to stdout.
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
