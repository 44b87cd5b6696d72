"""Find the base model that an adapter needs, from its `adapter_config.json`.

A PEFT adapter is a few matrices that work only with one base model, which it names. Offline this name must be in the
cache, spelled exactly as in the adapter. `bundler.hub.selection.remote_code` handles the similar case of code in
another repository.

A missing base model is reported, with the entry to write, and not added: it can be a thousand times larger than its
adapter, and it may already be in another bundle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from bundler.plan.lock import LockedRepo
from bundler.plan.manifest import Entry
from bundler.plan.names import is_repo_id

ADAPTER_CONFIG = "adapter_config.json"


def base_model(adapter_config: bytes) -> str | None:
    """Return the repository that an adapter names as its base; None if it names none, or a folder."""
    try:
        config = json.loads(adapter_config)
    except (ValueError, RecursionError):
        return None
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return name if isinstance(name, str) and is_repo_id(name) else None


def base_model_warning(entry: Entry, base: str, repos: Iterable[LockedRepo]) -> str | None:
    """Return a warning with what to write if no model entry has the name of an adapter's base model; else None.

    Args:
        entry: The adapter's entry.
        base: The base model that its configuration names.
        repos: All entries of the lock; old names of renamed repositories are among their aliases.
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
