"""Put pipelines together: of transformers by the task on the card, of diffusers by their parts; in the child."""

from __future__ import annotations

import importlib.util
from pathlib import PurePosixPath
from typing import Any

from bundler.hub.selection.card import CARD, read_task
from bundler.hub.selection.weights import WEIGHT_SUFFIXES
from bundler.make.proof.entries import LoadedEntry, LoadingFault, MissingPieceFault, Outcome, try_call
from bundler.make.proof.weights import find_obstacle, read_headers_only
from bundler.text.wording import counted, size

MODEL_INDEX = "model_index.json"
# Weights are read, as for sentence-transformers.
_MOST_READ_BYTES = 2_000_000_000


def prove_pipeline(entry: LoadedEntry, config: dict[str, Any], outcome: Outcome) -> None:
    """Put the pipeline together that transformers makes of a model by the task of its card.

    What it lacks is a note and no fault: many take a model along for its weights, and the rest from elsewhere.

    Args:
        entry: The entry.
        config: Its config.json.
        outcome: Receives the result.
    """
    task = read_task((entry.snapshot / CARD).read_bytes()) if CARD in entry.paths else None
    if task is None or find_obstacle(config):
        return
    import torch
    import transformers

    if task not in transformers.pipelines.SUPPORTED_TASKS:
        outcome.notes.append(f"not tried: pipeline({task!r}): transformers has no such task")
        return
    for name in entry.names:
        call = f"pipeline({task!r}, model={name!r})"
        try:
            with read_headers_only():
                try_call(
                    call,
                    transformers.pipeline,
                    task,
                    model=name,
                    revision=entry.repo.revision,
                    device=torch.device("meta"),
                    model_kwargs={"device_map": "meta"},
                )
        except (ImportError, LoadingFault) as error:
            outcome.notes.append(f"not put together: {call}: {' '.join(str(error).split())[:300]}")
            return
    outcome.proven.append(f"pipeline({task!r}) is put together as {' and '.join(entry.names)}")


def prove_parts(entry: LoadedEntry, outcome: Outcome) -> None:
    """Check that the parts of a diffusers pipeline are there, and load it by each name as a program does.

    Raises:
        MissingPieceFault: A part is not in the bundle.
        LoadingFault: It does not load.
    """
    index = entry.json(MODEL_INDEX)
    parts = [
        name
        for name, value in index.items()
        if not name.startswith("_") and isinstance(value, list) and len(value) == 2 and all(value)
    ]
    if not parts:
        return
    for name in parts:
        files = [PurePosixPath(path) for path in entry.paths if path.startswith(f"{name}/")]
        # A part with a config.json of its own is a model; schedulers and tokenizers have files of other names.
        is_model = any(path.name == "config.json" for path in files)
        if not files or (is_model and not any(path.suffix in WEIGHT_SUFFIXES for path in files)):
            raise MissingPieceFault(
                f"{MODEL_INDEX} names the part {name}, and the bundle has {'no weights of it' if files else 'none'}",
                line=f'{entry.repo.repo_id}: "{name}/" among its allow_patterns, or no pattern of its ignore_patterns '
                "that matches it; allow_pickle: true, if its weights are pickled and you trust them",
            )
    outcome.proven.append(f"all parts of the pipeline are there ({counted(len(parts), 'part')})")
    kind = index.get("_class_name")
    if importlib.util.find_spec("diffusers") is None:
        outcome.notes.append(f"not tried: {kind}: diffusers is not installed here")
    elif entry.repo.size_bytes > _MOST_READ_BYTES:
        outcome.notes.append(f"not tried: {kind}: it would read {size(entry.repo.size_bytes)}")
    else:
        _load_diffusion(entry, outcome)


def _load_diffusion(entry: LoadedEntry, outcome: Outcome) -> None:
    import diffusers  # type: ignore[import-not-found]

    for name in entry.names:
        call = f"DiffusionPipeline.from_pretrained({name!r})"
        try:
            try_call(call, diffusers.DiffusionPipeline.from_pretrained, name, **entry.options)
        except ImportError as error:
            outcome.notes.append(f"not tried: {call}: {' '.join(str(error).split())[:200]}")
            return
    outcome.proven.append(f"DiffusionPipeline loads as {' and '.join(entry.names)}")
