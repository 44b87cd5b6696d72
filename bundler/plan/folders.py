"""The cache root, and the names of the folders in it.

They stand apart from the layout, since nearly every command wants them, and few want a lock laid out.
"""

from __future__ import annotations

import os
from pathlib import Path

from bundler.errors import UsageError

BUNDLES_FOLDER = "bundles"
# Below `refs/`: names that keep commits for bundles, and are no branches (`bundler.home.common.kept_refs`).
KEPT_REFS = "bundle"
# The folders of repos, and of what the libraries made of them.
CONTENT_FOLDERS = ("hub", "datasets", "files")


def default_hf_home(option: Path | None = None) -> Path:
    """Return the cache root by huggingface_hub's rule: `option`, HF_HOME, XDG_CACHE_HOME, `~/.cache`.

    Raises:
        UsageError: A variable is set to an empty text. The library would then use the working directory.
    """
    if option is not None:
        return option.expanduser().absolute()
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        if (value := os.environ.get(name)) == "":
            raise UsageError(
                f"{name} is set, but empty: huggingface_hub would use the working directory as the cache",
                hint=f"unset {name}, or set it to a folder",
            )
        if value:
            break
    if home := os.environ.get("HF_HOME"):
        return Path(os.path.expandvars(home)).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "huggingface"
