"""Whether a run may go on from a checkpoint: with what it was made from, or with what is named in the log.

Rule book:

* another bundle, or another model than the checkpoint's, is refused. transformers would leave weights that do not fit
  as they were initialised, with no more than a warning. (Another tokenizer is refused too:
  `infini_llama.data.tokenizers`.)
* whatever else differs may be wanted, such as more steps, and is named: the run is then not the one that would have
  been without the stop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infini_llama.errors import ConfigError
from infini_llama.run_folder.checkpoints import PROVENANCE, Provenance


def check_provenance(checkpoint: Path, now: Provenance, *, accept_other_bundle: bool = False) -> list[str]:
    """Return a line for each thing that differs from what the checkpoint was made from.

    Args:
        checkpoint: A complete one.
        now: What the run that goes on is made from.
        accept_other_bundle: Whether another bundle may be in the list rather than an error.

    Raises:
        ConfigError: The bundle or the model is another.
    """
    before = json.loads((checkpoint / PROVENANCE).read_bytes())
    if before["bundle_digest"] != now.bundle_digest and not accept_other_bundle:
        raise ConfigError(
            f"{checkpoint} was trained from {_bundle(before['bundle'], before['bundle_digest'])}, and now there is "
            f"{_bundle(now.bundle, now.bundle_digest)}",
            hint="install the bundle of the run, or say --accept-other-bundle",
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


def read_started_from(checkpoint: Path) -> dict[str, Any]:
    """Return what the checkpoint's run had started with; empty for a fresh model."""
    record: dict[str, Any] = json.loads((checkpoint / PROVENANCE).read_bytes()).get("started_from", {})
    return record


def _differences(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the path of each key whose value is another or that one side lacks, and both values."""
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
