"""Note each dataset that a program asks for, as it asks: configuration, `data_files`, `data_dir`, split, revision.

`watch` loads this from its file when `datasets.load` is imported: the standard library only. What
`load_dataset_builder` returns tells which configuration a call without one means, and which files of which commit
belong to it, also where all of that is in the cache.
"""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import Any

_watch: Any = sys.modules["bundler.draft.record.watch.watch"]
_HUB_PATH = "hf://datasets/"
_CACHED = "datasets.packaged_modules.cache.cache"
# What changes a prepared dataset, and a manifest has no key for; a launch prepares it from the files.
_OTHER = ("features", "storage_options")


def wrap(module: ModuleType) -> None:
    """Put notes behind the two functions of `datasets.load` that all others of it call."""
    for name, take_note in {"load_dataset_builder": _note_builder, "load_dataset": _note_split}.items():
        setattr(module, name, _watch.note_after(getattr(module, name), take_note))


def _note_builder(call: dict[str, Any], builder: Any, frame: Any) -> None:
    files = _list_files(builder)
    name = getattr(builder, "repo_id", None) or ""
    if type(builder).__module__ == _CACHED and not os.path.exists(call["path"]):  # noqa: PTH110
        # Prepared earlier, and the Hub was not asked: the library knows only the name.
        name = call["path"]
    if not files and not name:
        return  # of this machine
    chosen, unsayable = {}, [key for key in (*_OTHER, *call.get("config_kwargs", {})) if call.get(key) is not None]
    unsayable += list(call.get("config_kwargs", {}))
    for key in ("data_files", "data_dir"):
        if call.get(key) is not None:
            try:
                chosen[key] = json.loads(json.dumps(call[key]))
            except (TypeError, ValueError):
                unsayable.append(key)
    _watch.note(
        "dataset",
        repo_id=name,
        asked=str(call["path"]),
        revision=str(call.get("revision") or "main"),
        commit=str(getattr(builder, "hash", "") or ""),
        named=call.get("name"),
        config=str(builder.config.name),
        data_files=chosen.get("data_files"),
        data_dir=chosen.get("data_dir"),
        other=sorted(set(unsayable)),
        files=files,
        where=_watch.find_line(frame),
    )


def _list_files(builder: Any) -> list[str]:
    """Return the files of the Hub that belong to a configuration, as hf:// paths with a commit."""
    by_split = getattr(builder.config, "data_files", None) or {}
    groups = by_split.values() if isinstance(by_split, dict) else [by_split]
    return sorted({str(file) for group in groups for file in group if str(file).startswith(_HUB_PATH)})


def _note_split(call: dict[str, Any], *_: object) -> None:
    split = call.get("split")
    _watch.note("split", asked=str(call["path"]), split=str(split) if split is not None else "")
