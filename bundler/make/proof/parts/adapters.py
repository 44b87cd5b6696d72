"""Put a PEFT adapter onto its base model, without reading the weights of that; in the proof's child process."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

from bundler.hub.selection.companions import ADAPTER_CONFIG, base_model
from bundler.hub.selection.weights import WEIGHT_SUFFIXES
from bundler.make.proof.entries import ContradictionFault, LoadedEntry, MissingPieceFault, Outcome, try_call
from bundler.make.proof.weights import find_obstacle, read_headers_only
from bundler.plan.names import repo_folder

# What peft says of names that its model has and the adapter's file lacks; it goes on with random numbers.
_MISSING = "Found missing adapter keys"


def prove_adapter(entry: LoadedEntry, outcome: Outcome) -> None:
    """Look for the base model of an adapter, and load the adapter onto it by each name.

    Raises:
        MissingPieceFault: The base model is not in the bundle, or only its tokenizer is.
        ContradictionFault: The adapter does not fit it.
        LoadingFault: It does not load.
        ImportError: A package that the base model needs is not installed.
    """
    if ADAPTER_CONFIG not in entry.paths:
        return
    base = base_model((entry.snapshot / ADAPTER_CONFIG).read_bytes())
    if base is None:
        return
    if entry.repo.base_elsewhere:
        outcome.notes.append(f"not tried: the adapter on {base}, which another bundle must bring (base_elsewhere)")
        return
    if not _has_weights(entry, base):
        raise MissingPieceFault(
            f"{ADAPTER_CONFIG} names the base model {base}, and the bundle has no weights of that name",
            line=f"add to models: - repo_id: {base}; if it is there by another name, {base} to its aliases; if another "
            "bundle brings it, base_elsewhere: true to the adapter",
        )
    outcome.proven.append(f"its base model {base} is in the bundle")
    if importlib.util.find_spec("peft") is None:
        outcome.notes.append(f"not tried: the adapter on {base}: peft is not installed here")
    elif reason := find_obstacle(config := _read_config(entry, base)):
        outcome.notes.append(f"not tried: the adapter on {base}: {reason}")
    else:
        for name in entry.names:
            _load(entry, name, base, config["architectures"][0])
        outcome.proven.append(f"adapter loads onto {base} as {' and '.join(entry.names)}")


def _snapshots(entry: LoadedEntry, base: str) -> Path:
    return entry.snapshot.parents[2] / repo_folder(base, "model") / "snapshots"


def _has_weights(entry: LoadedEntry, base: str) -> bool:
    return any(path.suffix in WEIGHT_SUFFIXES for path in _snapshots(entry, base).glob("*/**/*"))


def _read_config(entry: LoadedEntry, base: str) -> dict[str, Any]:
    for path in sorted(_snapshots(entry, base).glob("*/config.json")):
        try:
            config = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            continue  # The base model's own proof says so.
        if isinstance(config, dict):
            return config
    return {}


def _load(entry: LoadedEntry, name: str, base: str, architecture: str) -> None:
    import peft
    import transformers

    model_class: Any = getattr(transformers, architecture)
    call = f"{architecture}.from_pretrained({base!r})"
    with read_headers_only():
        model = try_call(call, model_class.from_pretrained, base, device_map="meta")
    call = f"PeftModel.from_pretrained({base}, {name!r})"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try_call(
            call,
            peft.PeftModel.from_pretrained,
            model,
            name,
            revision=entry.repo.revision,
            torch_device="cpu",
            low_cpu_mem_usage=True,
        )
    if missing := [str(warning.message) for warning in said if _MISSING in str(warning.message)]:
        raise ContradictionFault(f"{call}: {missing[0][:400]}")
