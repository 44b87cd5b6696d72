"""What a run measures as it goes: `metrics.jsonl` in its folder, one object a line.

Rule book:

* each step that is logged gives one line of the kind `step`; each checkpoint of a run with held-out text gives one of
  the kind `evaluation`;
* a run that goes on from step N first drops the lines after step N, which the killed run wrote, and a last line that
  was cut: no step stands twice. Lines are appended whole;
* what is not finite is null, which every reader of JSON takes;
* reading and writing need neither torch nor transformers; what is measured is in `infini_llama.train.metrics_log`.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from bundler.files.atomic import atomic_write

FILE = "metrics.jsonl"


def read_metrics(output_dir: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a run's metrics, in their order; none if there is no file."""
    try:
        lines = (output_dir / FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    # What follows the last line's end was cut short by a kill.
    found = (_parse(line) for line in lines[:-1])
    return [line for line in found if line is not None]


def append(output_dir: Path, line: dict[str, Any]) -> None:
    """Add a line; all of it in one write, so that a kill leaves it out or cuts it, and never mixes two."""
    content = (json.dumps(_replace_infinite(line)) + "\n").encode()
    descriptor = os.open(output_dir / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def drop_after(output_dir: Path, step: int) -> None:
    """Drop the lines after a step, and whatever is no whole line."""
    if (output_dir / FILE).exists():
        kept = [line for line in read_metrics(output_dir) if line["step"] <= step]
        atomic_write(output_dir / FILE, "".join(json.dumps(line) + "\n" for line in kept).encode())


def _replace_infinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _replace_infinite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_replace_infinite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None
