"""Load metrics with the evaluate library, in the proof's child process."""

from __future__ import annotations

import importlib.util

from bundler.hub.selection.metrics import script_of
from bundler.make.proof.entries import LoadedEntry, Outcome, try_call


def prove(entry: LoadedEntry, outcome: Outcome) -> None:
    """Load a space that is a metric, by each name; of any other nothing can be loaded.

    Raises:
        LoadingFault: It does not load.
        ImportError: A package that the metric imports is not installed.
    """
    script = script_of(entry.repo.repo_id)
    if script not in entry.paths:
        outcome.notes.append(f"not tried: it has no {script}, so it is no metric of the evaluate library")
        return
    if importlib.util.find_spec("evaluate") is None:
        outcome.notes.append(f"not tried: evaluate.load({entry.repo.repo_id!r}): evaluate is not installed here")
        return
    import evaluate

    for name in entry.names:
        try_call(f"evaluate.load({name!r})", evaluate.load, name, revision=entry.repo.revision)
    outcome.proven.append(f"metric loads as {' and '.join(entry.names)}")
