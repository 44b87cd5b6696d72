"""Decide whether a run may continue from a checkpoint, and list what has changed since.

Rule book:

* another bundle or another model is refused: transformers would only warn, and leave weights that do not fit at their
  initial values. (`infini_llama.data.tokenizers` refuses another tokenizer.)
* all other differences, such as more steps, may be intended. They are listed, because the result will differ from that
  of a run without a stop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infini_llama.errors import ConfigError
from infini_llama.run_folder.checkpoints import PROVENANCE, Provenance


def check_provenance(checkpoint: Path, now: Provenance, *, accept_other_bundle: bool = False) -> list[str]:
    """Return a line for each difference between a run and the checkpoint that it continues from.

    Args:
        checkpoint: A complete checkpoint.
        now: Provenance of the run that continues.
        accept_other_bundle: Whether another bundle is a difference to list, and not an error.

    Raises:
        ConfigError: The bundle or the model differs.
    """
    before = read_provenance(checkpoint)
    if before["bundle_digest"] != now.bundle_digest and not accept_other_bundle:
        raise ConfigError(
            f"{checkpoint} was trained from {_bundle(before['bundle'], before['bundle_digest'])}, and now there is "
            f"{_bundle(now.bundle, now.bundle_digest)}",
            hint="install the bundle of the run, or add --accept-other-bundle",
        )
    changed = dict(_differences(before["settings"], now.settings))
    model = {path: values for path, values in changed.items() if path.startswith("model.")}
    if model:
        raise ConfigError(
            f"{checkpoint} holds another model: {'; '.join(_line(*item) for item in model.items())}",
            hint="resume with the model settings of the run, or start a new one in another --output-dir",
        )
    changed |= _differences(
        {
            "bundle digest": before["bundle_digest"],
            "text": before["data"].get("sha256"),
            "processes": before["world_size"],
            "first model": before.get("started_from", {}),
        },
        {
            "bundle digest": now.bundle_digest,
            "text": now.data.get("sha256"),
            "processes": now.world_size,
            "first model": now.started_from,
        },
    )
    changed |= _differences(before["versions"], now.versions)
    return [_line(*item) for item in changed.items()]


def read_provenance(checkpoint: Path) -> dict[str, Any]:
    """Return what a complete checkpoint was made from, as it was written."""
    record: dict[str, Any] = json.loads((checkpoint / PROVENANCE).read_bytes())
    return record


def read_started_from(checkpoint: Path) -> dict[str, Any]:
    """Return the record of the model that the checkpoint's run started with; empty for a new model."""
    record: dict[str, Any] = read_provenance(checkpoint).get("started_from", {})
    return record


def _differences(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield (key path, both values) of each key that differs or that one side lacks."""
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield prefix + key, (one, other)


def _line(path: str, values: tuple[Any, Any]) -> str:
    return f"{path} was {values[0]!r} and is {values[1]!r}"


def _bundle(name: str, digest: str) -> str:
    return f"the bundle {name} ({digest})" if name else "no bundle"
