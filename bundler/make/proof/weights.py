"""Check names and shapes of weights against their architecture, without reading weights; in the child process.

transformers' own `from_pretrained` builds the model on the meta device, so its rules for renamed, tied and ignored
weights decide what fits. Missing weights, for which it would only warn and use random numbers, are an error here. It
reads headers instead of files: see `read_headers_only`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from safetensors import safe_open

from bundler.hub.selection.weights import WEIGHT_SUFFIXES
from bundler.make.proof.entries import (
    SHOWN,
    ContradictionFault,
    LoadedEntry,
    LoadingFault,
    Outcome,
    try_call,
)
from bundler.make.proof.headers import MISSING_SHARD, TensorHeader, index_faults, read_header
from bundler.text.wording import counted, name_some


def prove_weights(entry: LoadedEntry, config: dict[str, Any], outcome: Outcome) -> None:
    """Check the weights of a model entry as far as its config allows.

    Args:
        entry: The entry.
        config: Its config.json.
        outcome: Receives the results, and what could not be checked.

    Raises:
        LoadingFault: Files are missing, damaged, or do not fit the architecture.
        ImportError: A package that the model needs is not installed.
    """
    weights = sorted(path for path in entry.paths if PurePosixPath(path).suffix in WEIGHT_SUFFIXES)
    if not weights and config:
        raise LoadingFault("it has no weights; an entry without weights belongs under `tokenizers`")
    if not weights:
        # Patterns asked for just these: without any the choice of files has refused the repo.
        outcome.notes.append(
            f"neither a config.json nor weights of a known kind: {counted(len(entry.paths), 'file')} carried as "
            "they are, and not loaded"
        )
        return
    tensors = _check_headers(entry)
    safetensors = [path for path in weights if path.endswith(".safetensors")]
    checked = f"headers of {counted(len(safetensors), 'safetensors file')} checked ({tensors} tensors)"
    if reason := find_obstacle(config):
        outcome.proven.append(checked) if safetensors else None
        outcome.notes.append(f"architecture not built: {reason}")
        return
    if not any("/" not in path and path.endswith((".safetensors", ".bin")) for path in weights):
        outcome.notes.append(
            f"architecture not built: no safetensors or .bin weights, but {', '.join(weights[:3])}"
        )
        return
    outcome.proven.append(_build(entry, config, outcome, tensors if safetensors else None))


def _check_headers(entry: LoadedEntry) -> int:
    """Read every safetensors header and compare indexes with shards; return the number of tensors."""
    folders: dict[str, dict[str, dict[str, TensorHeader]]] = {}
    faults = []
    for path in sorted(entry.paths):
        if path.endswith(".safetensors"):
            folder, _, name = path.rpartition("/")
            try:
                folders.setdefault(folder, {})[name] = read_header(entry.snapshot / path)
            except ValueError as error:
                faults.append(f"{folder}/{error}" if folder else str(error))
    for path in sorted(entry.paths):
        if path.endswith(".safetensors.index.json"):
            faults.extend(index_faults(entry.snapshot / path, folders.get(path.rpartition("/")[0], {})))
    if faults:
        is_whole = not any(fault.endswith(MISSING_SHARD) for fault in faults)
        raise (ContradictionFault if is_whole else LoadingFault)(name_some(faults, shown=SHOWN, separator="; "))
    return sum(len(header) for files in folders.values() for header in files.values())


def find_obstacle(config: dict[str, Any]) -> str | None:
    """Return why building the model from its config would prove nothing, or is impossible; None if it can be built."""
    architectures = config.get("architectures") or []
    if not config.get("model_type"):
        return "no transformers config"
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "unknown method")
        return f"it is quantised ({method})"
    if not architectures:
        return "its config names no architectures"
    if config.get("auto_map"):
        return "it is remote code"
    import transformers

    if not hasattr(transformers, architectures[0]):
        return f"this transformers has no {architectures[0]}"
    return None


def _build(entry: LoadedEntry, config: dict[str, Any], outcome: Outcome, tensors: int | None) -> str:
    import transformers

    architecture = config["architectures"][0]
    model_class = getattr(transformers, architecture)
    for name in entry.names:
        call = f"{architecture}.from_pretrained({name!r})"
        with read_headers_only():
            _, info = try_call(
                call,
                model_class.from_pretrained,
                name,
                revision=entry.repo.revision,
                device_map="meta",
                output_loading_info=True,
                # Collect all mismatches; without this the error would name only the first.
                ignore_mismatched_sizes=True,
                use_safetensors=tensors is not None,
            )
        _refuse_difference(call, info)
    if unused := sorted(info["unexpected_keys"]):
        outcome.notes.append(
            f"{counted(len(unused), 'tensor')} not used by {architecture}: {name_some(unused, shown=SHOWN)}"
        )
    if tensors is None:
        return f"{architecture} is built, and every name and shape matches its pickle weights"
    return f"{architecture} is built, and every name and shape matches the headers ({tensors} tensors)"


def _refuse_difference(call: str, info: dict[str, Any]) -> None:
    """Refuse missing or mismatched weights: transformers would only warn, and use random numbers for them."""
    faults = []
    if info["missing_keys"]:
        faults.append(f"the weights have no {name_some(sorted(info['missing_keys']), shown=SHOWN)}")
    # (name, shape in the file, shape in the model)
    for name, found, expected in sorted(info["mismatched_keys"], key=str)[:SHOWN]:
        faults.append(f"{name} has shape {list(found)}, the config asks for {list(expected)}")
    faults.extend(str(message) for message in info.get("error_msgs") or [])
    if faults:
        raise ContradictionFault(f"{call}: {'; '.join(faults)}")


@contextlib.contextmanager
def read_headers_only() -> Iterator[None]:
    """Let transformers' loader get meta tensors of the right shape from safetensors files, while the block runs.

    This replaces the loader's own reference to `safe_open`. If a later version has none, the loader reads the real
    weights and drops them, which is slower and gives the same result.
    """
    from transformers import modeling_utils

    loader: Any = modeling_utils
    original = getattr(loader, "safe_open", None)
    if original is None:
        yield
        return
    loader.safe_open = _HeaderFile
    try:
        yield
    finally:
        loader.safe_open = original


class _HeaderFile:
    """Replaces `safetensors.safe_open`."""

    def __init__(self, path: str, *args: Any, **options: Any) -> None:
        self._file: Any = safe_open(path, framework="pt")

    def __enter__(self) -> _HeaderFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(None, None, None)

    def keys(self) -> list[str]:
        return list(self._file.keys())

    def metadata(self) -> Any:
        return self._file.metadata()

    def get_slice(self, name: str) -> _HeaderSlice:
        return _HeaderSlice(self._file.get_slice(name))


class _HeaderSlice:
    def __init__(self, real: Any) -> None:
        self._real = real

    def get_shape(self) -> Any:
        return self._real.get_shape()

    def get_dtype(self) -> Any:
        return self._real.get_dtype()

    def __getitem__(self, index: Any) -> Any:
        import torch
        from transformers.modeling_utils import str_to_torch_dtype

        whole = torch.empty(self.get_shape(), dtype=str_to_torch_dtype[self.get_dtype()], device="meta")
        return whole[index]
