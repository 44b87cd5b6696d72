"""Write and read what was recalled, for the report of a run.

`recall.jsonl` has what small models recalled of the recall task, `passkeys.jsonl` which passkeys a checkpoint found.
Files of their own: the models need not be the run's, and a run that goes on from an earlier step must not drop their
lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundler.files.atomic import atomic_write

RECALL = "recall.jsonl"
PASSKEYS = "passkeys.jsonl"


def write_recalled(output_dir: Path, file: str, records: Sequence[dict[str, Any]]) -> None:
    """Write the records that `infini-llama recall --json` prints into one of the files, in place of earlier ones."""
    atomic_write(output_dir / file, "".join(json.dumps(record) + "\n" for record in records).encode())


def read_recalled(output_dir: Path, file: str) -> list[dict[str, Any]]:
    """Return the records of one of the files in a run's folder; none if there is no such file."""
    try:
        lines = (output_dir / file).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
