"""The targets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.fuzz import targets
from tests.fuzz.differences import fuzz_differences
from tests.fuzz.left import fuzz_left
from tests.fuzz.parity import Repaired
from tests.fuzz.registry import fuzz_registry
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
    "differences": fuzz_differences,
    "registry": fuzz_registry,
    "left": fuzz_left,
}
# What is made once, and then given many inputs.
_MAKERS: dict[str, Callable[[Path], targets.Target]] = {"serve": Served, "parity": Repaired}
NAMES = (*FUNCTIONS, *_MAKERS)


def make_target(name: str, folder: Path) -> targets.Target:
    """Return a target; `folder` is for what it makes."""
    return FUNCTIONS[name] if name in FUNCTIONS else _MAKERS[name](folder)
