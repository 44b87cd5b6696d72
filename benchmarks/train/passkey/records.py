"""What the passkey benchmarks measured: a file with a line for each record, and what of a table both have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.lib import machine

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """Return the records in a file; a last line that was cut off is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def append_record(path: Path, record: Record) -> None:
    """Add a record to a file, in place of what a killed run began to write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before, end, _ = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    with path.open("ab") as file:
        file.truncate(len(before) + len(end))
        file.write(json.dumps(record).encode() + b"\n")


def select(records: Iterable[Record], **wanted: object) -> list[Record]:
    """Return the records that have all of these values."""
    return [each for each in records if all(each.get(name) == value for name, value in wanted.items())]


def digest_of(value: object) -> str:
    """Return what tells the records of one recipe, any value that JSON has, from those of another."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def setting() -> str:
    """Return what figures were measured on."""
    cpu = machine.describe(Path(__file__).parent)["cpu"]
    return f"{cpu}, torch {torch.__version__}, transformers {transformers.__version__}, one thread"


def lines_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def percent(share: float) -> str:
    """Return a share in percent; 100 % only where nothing is missing."""
    # torch's shares are in float32, and 0.9 of them is a little less.
    return f"{int(share * 1000 + 1e-4) / 10:g} %"
