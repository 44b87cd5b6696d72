"""demo.run: its summaries ask for keys that the commands write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from demo.run import summarize, summarize_memory, summarize_passkeys

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


def test_each_figure_of_the_memory_is_one_that_was_measured() -> None:
    evaluated = documented("infini-llama eval --json")
    assert all(f"`stretches[].{key}`" in _PAGE for key in ("tokens", "with_memory", "without_memory"))
    stretch = {"tokens": 1000, "with_memory": 10.25, "without_memory": 11.5}
    record = documented("infini-llama recall --json")
    assert {"variant", "accuracy", "chance"} <= set(record)
    records = [
        {**record, "variant": variant, "accuracy": {"2": share, "8": share / 2}, "chance": 0.0625}
        for variant, share in (("linear", 1.0), ("gates-shut", 0.1))
    ]
    assert summarize_memory({**evaluated, "stretches": [stretch, {**stretch, "tokens": 2000}]}, records) == {
        "held-out text": "perplexity 10.25 with the memory, 11.50 with its gates shut; 2,000 tokens",
        "recall": "1.000 over 2, 0.500 over 8 segments; a guess is right in 0.062",
        "without memory": "0.100 over 2, 0.050 over 8 segments; a guess is right in 0.062",
    }


def test_passkeys_are_told_of_the_longest_text() -> None:
    assert all(f"`{key}`" in _PAGE for key in ("accuracy", "segments", "tokens"))
    places = {"start": 1.0, "middle": 0.9, "end": 0.25}
    short, long = ({"segments": n, "tokens": 128 * n, "accuracy": places} for n in (5, 40))
    assert summarize_passkeys([{**short, "accuracy": {}}, long]) == {
        "passkeys found": "1.00 at the start, 0.90 at the middle, 0.25 at the end of 5,120 bytes; local attention "
        "sees 128"
    }
