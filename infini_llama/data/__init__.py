"""Turn raw files, or a dataset of a bundle, into rows of segments that the trainer reads from a memory map.

`files` finds what to read · `compression` opens it · `records` reads records, and finds bad ones · `tokenizing` turns
text into tokens, in parallel by `encoding` · `token_cache` keeps tokens by content · `tokens_on_demand` makes them
again where they are not kept · `documents` maps them into memory · `rows` makes rows of segments · `preparation` runs
these steps in order, `sources` for each source of a mixture · `permutation` shuffles without a list · `order` says
which row is drawn when · `drawing` where a run is in it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infini_llama.data.documents import Documents
    from infini_llama.data.preparation import Prepared, prepare_documents
    from infini_llama.data.rows import IGNORED, Rows
    from infini_llama.data.sources import Sources, prepare_sources

# Imported when it is used: a process that only encodes needs none of it, and no torch.
_MODULES = {
    "IGNORED": "rows",
    "Documents": "documents",
    "Prepared": "preparation",
    "Rows": "rows",
    "Sources": "sources",
    "prepare_documents": "preparation",
    "prepare_sources": "sources",
}

__all__ = ["IGNORED", "Documents", "Prepared", "Rows", "Sources", "prepare_documents", "prepare_sources"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
