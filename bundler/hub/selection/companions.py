"""Which other repository an adapter cannot be loaded without: a pure function of its `adapter_config.json`.

A PEFT adapter is a few matrices that mean something on top of one base model, which it names. Without a network the
name must be found in the cache, spelled exactly as the adapter spells it. Code in another repository is the other case
of this kind; `bundler.hub.selection.remote_code` has it.

What is missing is named, with the entry to write, and not added: a base model can be a thousand times the size of its
adapter, and it may be in another bundle already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from bundler.plan.lock import LockedRepo
from bundler.plan.manifest import Entry
from bundler.plan.names import is_repo_id

ADAPTER_CONFIG = "adapter_config.json"


def base_model(adapter_config: bytes) -> str | None:
    """Return the repository that an adapter names as its base, or None when it names none, or a folder."""
    try:
        config = json.loads(adapter_config)
    except (ValueError, RecursionError):
        return None
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return name if isinstance(name, str) and is_repo_id(name) else None


def base_model_warning(entry: Entry, base: str, repos: Iterable[LockedRepo]) -> str | None:
    """Say what to write where no model entry answers to the name of an adapter's base model.

    Args:
        entry: The adapter's entry.
        base: What its configuration names.
        repos: All of the lock; an old name of a renamed repository is among the aliases.
    """
    models = [repo for repo in repos if repo.kind == "model" and repo.repo_id != entry.repo_id]
    if any(base in (repo.repo_id, *repo.aliases) for repo in models):
        return None
    said = (
        f"{entry.label}: the adapter's base model is {base} ({ADAPTER_CONFIG}), and no model entry has that name"
    )
    stem = base.rpartition("/")[2].lower()
    alike = [repo.repo_id for repo in models if repo.repo_id.rpartition("/")[2].lower() == stem]
    if alike:
        return f"{said}; if it is {alike[0]}, add {base} to the aliases there"
    return f"{said}; to load the adapter offline add to models: - repo_id: {base}"
