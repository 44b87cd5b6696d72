"""Read and write `metrics.jsonl`, the measurements of a run, one JSON object per line.

Rule book:

* each logged step gives a line of the kind `step`; each checkpoint of a run with held-out text gives one of the kind
  `evaluation`;
* a run that continues from step N first drops the lines of the killed run after step N, and an incomplete last line, so
  that no step is in the file twice. A line is appended with one write;
* numbers that are not finite are written as null, which every JSON reader accepts;
* this module imports neither torch nor transformers; `infini_llama.train.metrics_log` does the measuring.
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
    """Return the complete lines of a run's metrics, in order; none if there is no file."""
    try:
        lines = (output_dir / FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    # Text after the last line end was cut short by a kill.
    found = (_parse(line) for line in lines[:-1])
    return [line for line in found if line is not None]


def append(output_dir: Path, line: dict[str, Any]) -> None:
    """Append a line with one write, so that a kill can cut it short but never mix two lines."""
    content = (json.dumps(_replace_infinite(line)) + "\n").encode()
    descriptor = os.open(output_dir / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def drop_after(output_dir: Path, step: int) -> None:
    """Delete the lines after a step, and lines that are not complete."""
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
