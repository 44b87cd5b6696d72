"""Undocumented, missing, unseen and otherwise typed keys are each found."""

from __future__ import annotations

from typing import Any

import pytest

from docs.generate.observed import faults
from docs.generate.outputs import Output, key

OUTPUT = Output(
    call="c",
    summary="",
    keys=(
        key("name", "string", ""),
        key("rows", "array of objects", ""),
        key("rows[].count", "integer or null", ""),
        key("rows[].more", "array of strings", "", when="sometimes"),
        key("set", "object", ""),
        key("set.*", "number", ""),
    ),
)
GOOD: dict[str, Any] = {"name": "n", "rows": [{"count": 1, "more": ["x"]}, {"count": None}], "set": {"any": 0.5}}


def test_what_is_documented_passes() -> None:
    assert faults(OUTPUT, [GOOD]) == []
    assert faults(OUTPUT, [GOOD, {"name": "n", "rows": [], "set": {"one": 1}}]) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"new": 1}, "new: not documented"),
        ({"rows": [{"count": 1, "more": []}, {"count": 1, "new": 1}]}, "rows[].new: not documented"),
        ({"rows": [{"more": ["x"]}, {"count": 1}]}, "rows[].count: missing"),
        ({"rows": [{"count": 1}]}, "rows[].more: documented, but never seen"),
        ({"rows": [{"count": "1", "more": []}]}, "rows[].count: documented as integer or null, seen as string"),
        ({"rows": [{"count": True, "more": []}]}, "rows[].count: documented as integer or null, seen as boolean"),
        (
            {"rows": [{"count": 1, "more": [1]}]},
            "rows[].more: documented as array of strings, seen as array of integers",
        ),
        ({"set": {"any": "s"}}, "set.*: documented as number, seen as string"),
        ({"set": {}}, "set.*: documented, but never seen"),
    ],
)
def test_what_is_not_is_named(change: dict[str, Any], fault: str) -> None:
    assert faults(OUTPUT, [GOOD | change]) == [f"c: {fault}"]


def test_a_key_that_one_of_several_outputs_lacks_is_named() -> None:
    assert faults(OUTPUT, [GOOD, {"rows": [], "set": {}}]) == ["c: name: missing"]
