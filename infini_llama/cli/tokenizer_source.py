"""Options for where the tokenizer of a run comes from, and the use of the network that this needs."""

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
        "--offline-mode", is_flag=True, help="Without a bundle: shut the network, and use the local cache."
    ),
    click.option("--online", is_flag=True, help="Without a bundle: allow to ask the Hub for the tokenizer."),
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
    """Check that the options name exactly one source.

    Raises:
        click.UsageError: They name no source, or sources that exclude each other.
    """
    if (bundle is not None or offline_mode) == online:
        raise click.UsageError("say where the tokenizer comes from: --bundle NAME, --offline-mode or --online")


def prepare_network(
    bundle: str | None, hf_home: Path | None, *, online: bool, quick: bool = False
) -> InstalledBundle | None:
    """Shut the network and verify the bundle, or check that the Hub can be reached; return the bundle, if there is one.

    Raises:
        BundleError: The bundle is damaged or missing; or, online, the Hub's address is invalid or cannot be reached.
    """
    if online:
        if hf_home is not None:
            os.environ["HF_HOME"] = str(hf_home.absolute())
        try:
            endpoint = check_endpoint()
            proxy = check_proxy(endpoint)
            if proxy is None and (fault := find_reach_fault(endpoint)):
                advice = "set HTTPS_PROXY if there is a proxy, or use a machine with internet"
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
    # No bundle is used, so installed bundles are checked by names and sizes only.
    enforce_offline(hf_home=hf_home, quick=True)
    say("offline without a bundle: the content of the local cache is not verified")
    return None
