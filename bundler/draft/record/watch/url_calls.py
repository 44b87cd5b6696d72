"""Note files of other hosts that libraries keep in caches of their own, read from there too: tiktoken, torch.hub.

`watch` loads this from its file when one of them is imported: the standard library only.
"""

from __future__ import annotations

import functools
import os
import sys
from types import FrameType, ModuleType
from typing import Any

_watch: Any = sys.modules["bundler.draft.record.watch.watch"]

# Module -> the functions that get a URL, and the argument that has it.
_FUNCTIONS = {
    "tiktoken.load": {"read_file_cached": "blobpath"},
    "torch.hub": {"load_state_dict_from_url": "url", "download_url_to_file": "url", "load": "repo_or_dir"},
}


def wrap(module: ModuleType) -> None:
    """Put a note behind the functions of a module that get files by URL."""
    for name, argument in _FUNCTIONS[module.__name__].items():
        take_note = functools.partial(_note, module.__name__.partition(".")[0], argument)
        setattr(module, name, _watch.note_after(getattr(module, name), take_note))


def _note(library: str, argument: str, call: dict[str, Any], _: object, frame: FrameType) -> None:
    url, is_own = call[argument], call.get("model_dir") is not None
    if "dst" in call:
        home = os.path.realpath(sys.modules["torch.hub"].get_dir())
        is_own = not os.path.realpath(call["dst"]).startswith(f"{home}/")
    if argument == "repo_or_dir":
        if call.get("source", "github") != "github":
            return
        url = f"https://github.com/{url}"
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        name = "" if is_own else call.get("file_name") or ""
        where = _watch.find_line(frame)
        _watch.note("url", url=url, library=library, name=name, own=is_own, where=where)
