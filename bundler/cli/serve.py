"""`bundle serve`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.console.options import json_option
from bundler.console.output import say
from bundler.console.paths import GivenPath, GivenPlace
from bundler.remote.address import Place
from bundler.text.wording import counted

if TYPE_CHECKING:
    from bundler.serve.source import RepoSource

DEFAULT_PORT = 8470


@click.command()
@click.argument("path", type=GivenPlace())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--host-name",
    "host_names",
    metavar="NAME",
    multiple=True,
    help="Name that clients may call this server by, besides localhost, its own and every address; repeatable.",
)
@click.option("--tls-cert", type=GivenPath(), help="PEM file of a certificate, for https; needs --tls-key.")
@click.option("--tls-key", type=GivenPath(), help="PEM file of its key.")
@click.option(
    "--token-file",
    type=GivenPath(),
    help="File with a token that clients must send (HF_TOKEN), for use beyond this machine.",
)
@click.option("--verbose", is_flag=True, help="Log every request to stderr.")
@json_option
def serve(
    path: Place,
    host: str,
    port: int,
    host_names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Serve PATH as a read-only Hub, until Ctrl-C.

    PATH is a folder of repos (namespace/name/... for models, datasets/namespace/name/... for datasets), an
    installed cache (HF_HOME), or a bundle or its address. The endpoint is printed to stdout once it accepts
    connections.

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
      bundle serve ./repos
      HF_ENDPOINT=http://127.0.0.1:8470 hf download openai-community/gpt2
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    from bundler.serve.gatekeeper import Gatekeeper, own_names, read_token
    from bundler.serve.listen import Certificate, endpoint_of, is_loopback, open_listener, serve_until_signal
    from bundler.serve.server import create_app
    from bundler.serve.sources import open_source

    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("bundler").setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").setLevel(logging.INFO if verbose else logging.WARNING)
    certificate = Certificate(tls_cert, tls_key) if tls_cert and tls_key else None
    if certificate:
        certificate.check()
    token = read_token(token_file) if token_file else None
    source = open_source(path)
    with open_listener(host, port) as listener:
        if not is_loopback(listener):
            host_names += own_names(host)
            _warn_beyond_loopback(listener.getsockname()[0], certificate, token)
        endpoint = endpoint_of(listener, scheme="https" if certificate else "http")
        serve_until_signal(
            Gatekeeper(create_app(source), host_names=host_names, token=token),
            listener,
            certificate=certificate,
            when_ready=lambda: _announce(endpoint, path, source, as_json),
        )
    say("stopped")


def _warn_beyond_loopback(address: str, certificate: object, token: object) -> None:
    missing = "" if certificate else " There is no encryption (--tls-cert)."
    missing += "" if token else " There is no login (--token-file)."
    if missing:
        say(
            f"WARNING: listening on {address}, not on loopback: everyone who can reach this machine can read every "
            f"file of these repos.{missing}"
        )


def _announce(endpoint: str, path: Place, source: RepoSource, as_json: bool) -> None:
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
