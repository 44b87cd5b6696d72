"""demo.run: its summary asks for keys that the commands write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from demo.run import summarize

_PAGE = (Path(__file__).parents[2] / "docs/reference/json.md").read_text(encoding="utf-8")
_VALUES = {"integer": 2, "number": 2.0, "string": "text", "boolean": True, "object": {}, "array": [], "null": None}


def documented(command: str) -> dict[str, Any]:
    """Return an object with the documented keys of a command's JSON, and values of their types."""
    section = _PAGE.partition(f"\n## `{command}`\n")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `([\w.]+)` \| (\w+)", section, re.MULTILINE)
    assert keys, command
    value: dict[str, Any] = {}
    for name, kind in keys:
        *path, last = name.split(".")
        place = value
        for part in path:
            place = place[part]
        place[last] = {} if kind == "object" else _VALUES[kind]
    return value


def test_each_key_that_it_asks_for_is_one_that_is_written() -> None:
    summary = summarize(
        documented("bundle fetch --json"),
        documented("bundle verify --json"),
        documented("bundle install --json"),
        documented("infini-llama train --json"),
        documented("bundle run --report FILE"),
    )
    assert summary["bundle"] == "text, 2 B, 1.000 of 2 B"
    assert summary["network"] == "2 attempts seen"
