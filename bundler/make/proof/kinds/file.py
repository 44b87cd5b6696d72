"""Find files of other hosts with the libraries that they are for, in the proof's child process."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from bundler.make.proof.entries import LoadedEntry, LoadingFault, Outcome, try_call
from bundler.plan.lock import Origin
from bundler.text.wording import counted, name_some, size

# A checkpoint is read into memory.
_MOST_READ_BYTES = 2_000_000_000
_PACKAGES = {"tiktoken": "tiktoken", "torch_hub": "torch", "nltk_data": "nltk"}


def prove(entry: LoadedEntry, outcome: Outcome) -> None:
    """Have a file found, by the library that it is for, without asking its host.

    Raises:
        LoadingFault: It is not found, or the library cannot read it.
    """
    origin = entry.repo.origin
    assert origin is not None, "the reader of locks sees to that"
    package = _PACKAGES.get(origin.into)
    if package is None:
        [file] = entry.repo.files
        place = os.path.join(os.environ["BUNDLE_FILES"], file.path.partition("/")[2])  # noqa: PTH118
        if not os.path.isfile(place):  # noqa: PTH113
            raise LoadingFault(f"$BUNDLE_FILES has no {file.path.partition('/')[2]}")
        outcome.proven.append(f"is $BUNDLE_FILES/{file.path.partition('/')[2]} ({size(file.size_bytes)})")
    elif importlib.util.find_spec(package) is None:
        outcome.notes.append(f"not tried: {package} is not installed here")
    elif origin.into == "tiktoken":
        _prove_tiktoken(origin, outcome)
    elif origin.into == "nltk_data":
        _prove_nltk(entry, outcome)
    elif origin.unpacked:
        _prove_torch_repo(entry, outcome)
    else:
        _prove_checkpoint(entry, origin, outcome)


def _prove_tiktoken(origin: Origin, outcome: Outcome) -> None:
    from tiktoken.load import load_tiktoken_bpe, read_file_cached

    # With its hash: a file that is not the expected one would be deleted, and asked for again.
    content = try_call("tiktoken.load.read_file_cached", read_file_cached, origin.url, origin.sha256)
    if not origin.url.endswith(".tiktoken"):
        outcome.proven.append(f"tiktoken finds it ({size(len(content))})")
        return
    ranks = try_call("tiktoken.load.load_tiktoken_bpe", load_tiktoken_bpe, origin.url, origin.sha256)
    outcome.proven.append(f"tiktoken finds and reads it ({len(ranks)} tokens)")


def _prove_nltk(entry: LoadedEntry, outcome: Outcome) -> None:
    import nltk

    [file] = entry.repo.files
    name = file.path.partition("/")[2]
    try_call(f"nltk.data.find({name!r})", nltk.data.find, name)
    outcome.proven.append(f"nltk finds {name}")


def _prove_torch_repo(entry: LoadedEntry, outcome: Outcome) -> None:
    import torch

    folder = os.path.join(torch.hub.get_dir(), entry.repo.files[0].path.split("/")[2])  # noqa: PTH118
    if "hubconf.py" not in {file.path.split("/", 3)[3] for file in entry.repo.files}:
        raise LoadingFault("the repo has no hubconf.py, so torch.hub can load nothing of it")
    try:
        # As `torch.hub.list` does, which takes no folder; and which `_` of the folder's name is a `/` nobody can tell.
        names = try_call(f"importing hubconf.py of {folder}", _list_entries, folder)
    except ImportError as error:
        outcome.notes.append(f"not tried: its hubconf.py: {' '.join(str(error).split())[:200]}")
        return
    outcome.proven.append(f"torch.hub finds it; its hubconf.py offers {name_some(names, shown=8)}")


def _list_entries(folder: str) -> list[str]:
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("hubconf", os.path.join(folder, "hubconf.py"))  # noqa: PTH118
        assert spec is not None and spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return [name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")]


def _prove_checkpoint(entry: LoadedEntry, origin: Origin, outcome: Outcome) -> None:
    import torch

    [file] = entry.repo.files
    name = file.path.rpartition("/")[2]
    if not os.path.isfile(os.path.join(torch.hub.get_dir(), "checkpoints", name)):  # noqa: PTH113, PTH118
        raise LoadingFault(f"torch.hub finds no checkpoint {name}")
    call = f"torch.hub.load_state_dict_from_url(…/{name})"
    if origin.size_bytes > _MOST_READ_BYTES:
        outcome.notes.append(f"not tried: {call}: it would read {size(origin.size_bytes)}")
        return
    try:
        loaded = try_call(
            call,
            torch.hub.load_state_dict_from_url,
            origin.url,
            file_name=name,
            map_location="cpu",
            weights_only=True,
            progress=False,
        )
    except LoadingFault as error:
        # An archive of another kind, or classes that only its own program knows.
        outcome.notes.append(f"found, and not read: {str(error)[:200]}")
        return
    outcome.proven.append(f"torch.hub loads it ({counted(len(loaded), 'key')})")
