"""Make a bundle from an HF cache alone: the cache answers in the Hub's place, and nobody else is asked.

`bundle serve` shows a cache as a Hub that has what was once loaded from the real one, under the same commits and
hashes. So nothing of lock, fetch and proof is different; only what a cache cannot know is unknown.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bundler.errors import NotInstalledError
from bundler.make.cache.hub_cache import HubCache
from bundler.serve.aside import open_aside
from bundler.serve.sources.cache import cache_folder

_UNKNOWN = (
    "--offline: what {hub} does not have is not known: files that were never loaded count as absent from their repo, "
    "and a branch is what it was when it was loaded last"
)


@contextlib.contextmanager
def serve_cache(from_cache: Path | None, on_warning: Callable[[str], None]) -> Iterator[str]:
    """Show an HF cache as a Hub to this process as long as the block lasts; yield its address.

    To be called before huggingface_hub is imported, which reads the environment then: the address is one of this
    machine, whatever proxies and offline settings say.

    Args:
        from_cache: The cache as `HubCache.open` takes it; None for the default.
        on_warning: Told what cannot be known.

    Raises:
        NotInstalledError: There is no cache.
        BundleError: It cannot be shown.
    """
    os.environ["HF_HUB_OFFLINE"] = "0"
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    hub = HubCache.open(from_cache).hub
    if not hub.is_dir() or cache_folder(hub) is None:
        raise NotInstalledError(
            f"--offline takes everything from an HF cache, and {hub} is none with repos",
            hint="name another one: --from-cache DIR",
        )
    with open_aside("bundler.make.cache.process", str(hub), what=f"{hub} could not be shown as a Hub") as endpoint:
        on_warning(_UNKNOWN.format(hub=hub))
        yield endpoint
