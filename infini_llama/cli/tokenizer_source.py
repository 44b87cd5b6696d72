"""Where the tokenizer of a run comes from, and what that asks of the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.console.paths import GivenPath
from bundler.errors import NetworkError
from bundler.hub.connection.endpoint import check_endpoint, host_of, without_password
from bundler.hub.connection.proxies import check_proxy
from bundler.hub.connection.reach import find_reach_fault
from bundler.offline.enforce import enforce_offline
from infini_llama.progress import say
from infini_llama.train.ranks import enforce_offline_once_per_node

if TYPE_CHECKING:
    from bundler.home.installed import InstalledBundle

_OPTIONS = (
    click.option("--bundle", metavar="NAME", help="Installed bundle that holds the tokenizer; verified first."),
    click.option(
        "--offline-mode", is_flag=True, help="Without a bundle: the network shut, and what the cache holds."
    ),
    click.option("--online", is_flag=True, help="Without a bundle: the Hub may be asked for the tokenizer."),
    click.option(
        "--hf-home",
        type=GivenPath(file_okay=False),
        help="Where the bundle is installed [default: $HF_HOME, else the Hugging Face default].",
    ),
)


def tokenizer_source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `bundle`, `offline_mode`, `online` and `hf_home`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_tokenizer_source(bundle: str | None, *, offline_mode: bool, online: bool) -> None:
    """Make sure that there is one.

    Raises:
        click.UsageError: There is none, or two that exclude each other.
    """
    if (bundle is not None or offline_mode) == online:
        raise click.UsageError("say where the tokenizer comes from: --bundle NAME, --offline-mode or --online")


def prepare_network(
    bundle: str | None, hf_home: Path | None, *, online: bool, quick: bool = False
) -> InstalledBundle | None:
    """Shut the network and verify, or find out whether the way to the Hub is open; return the bundle, if there is one.

    Raises:
        BundleError: The bundle is damaged or missing; or, online, the Hub has no address or cannot be reached.
    """
    if online:
        if hf_home is not None:
            os.environ["HF_HOME"] = str(hf_home.absolute())
        try:
            endpoint = check_endpoint()
            proxy = check_proxy(endpoint)
            if proxy is None and (fault := find_reach_fault(endpoint)):
                advice = "set HTTPS_PROXY if there is a proxy, or run it where there is internet"
                raise NetworkError(f"{host_of(endpoint)} {fault}", hint=advice)
        except NetworkError as error:
            error.hint = f"{error.hint}; or train without a network: --offline-mode, or --bundle NAME"
            raise
        through = f", through the proxy {proxy}" if proxy else ""
        say(f"online: the tokenizer may be fetched from {without_password(endpoint)}{through}")
        return None
    if bundle is not None:
        installed: InstalledBundle = enforce_offline_once_per_node(bundle, hf_home=hf_home, quick=quick)
        return installed
    # No bundle was named and none is relied on: those that are installed get a look, not a reading.
    enforce_offline(hf_home=hf_home, quick=True)
    say("offline without a bundle: nothing that the local cache holds is verified")
    return None
