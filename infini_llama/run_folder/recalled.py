"""Write and read `recall.jsonl`, what small models recalled of the recall task, for the report of a run.

A file of its own: the models are not the run's, and a run that goes on from an earlier step must not drop their lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundler.files.atomic import atomic_write

FILE = "recall.jsonl"


def write_recalled(output_dir: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the records that `infini-llama recall --json` prints, in place of earlier ones."""
    atomic_write(output_dir / FILE, "".join(json.dumps(record) + "\n" for record in records).encode())


def read_recalled(output_dir: Path) -> list[dict[str, Any]]:
    """Return the records of a run's folder; none if there is no file."""
    try:
        lines = (output_dir / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
