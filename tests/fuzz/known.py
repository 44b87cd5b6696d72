"""The targets by name."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import targets
from tests.fuzz.requests import Served

FUNCTIONS: dict[str, targets.Target] = {
    "bundle": targets.fuzz_bundle,
    "volumes": targets.fuzz_volumes,
    "stream": targets.fuzz_stream,
    "frames": targets.fuzz_frames,
    "index": targets.fuzz_index,
    "lock": targets.fuzz_lock,
    "manifest": targets.fuzz_manifest,
    "receipt": targets.fuzz_receipt,
    "policy": targets.fuzz_policy,
    "signature": targets.fuzz_signature,
    "safetensors": targets.fuzz_safetensors,
}
NAMES = (*FUNCTIONS, "serve")


def make_target(name: str, folder: Path) -> targets.Target:
    """Return a target; `folder` is for what it serves."""
    return FUNCTIONS[name] if name in FUNCTIONS else Served(folder)
