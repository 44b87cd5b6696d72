"""What is wrong with the settings that a library has read at its import, in a process of an offline launch.

The guard loads this as it loads `caller`, once such a library is there: the standard library only.
"""

from __future__ import annotations

import os
from types import ModuleType


def find_fault(module: ModuleType) -> tuple[str, str] | None:
    """Return what is wrong with a module of `huggingface_hub` or `datasets`, and the remedy; or None."""
    library = module.__name__.partition(".")[0]
    variable = {"huggingface_hub": "HF_HUB_OFFLINE", "datasets": "HF_DATASETS_OFFLINE"}[library]
    if getattr(module, "HF_HUB_OFFLINE", True) is not True:
        also = " (or os.environ)" if library == "huggingface_hub" else ""
        return (
            f"{library} was imported with {variable} switched off, in an offline launch",
            f"remove the line that sets {variable}{also} before the import",
        )
    hub = os.environ.get("BUNDLE_HUB_CACHE")
    cache = getattr(module, "HF_HUB_CACHE", None) if library == "huggingface_hub" else None
    if hub and cache and os.path.realpath(cache) != os.path.realpath(hub):
        return (
            f"huggingface_hub was imported with its cache at {cache}, but what was verified is {hub}",
            "remove the line that sets HF_HOME or HF_HUB_CACHE; `bundle run --hf-home DIR` chooses the cache",
        )
    return None
