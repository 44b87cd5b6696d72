"""JSON in one form for people and for digests: an object or a value to a line, letters of all languages as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

# Made once: `json.dumps` makes one for each call that asks for anything but ASCII.
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def spell_value(value: object) -> str:
    """Return a value in one line."""
    return _ENCODER.encode(value)


def spell_object(pairs: Mapping[str, object]) -> str:
    """Return an object in one line, less the keys whose value is None."""
    return _ENCODER.encode({key: value for key, value in pairs.items() if value is not None})


def list_lines(key: str, rows: Iterable[str], *, last: bool) -> Iterator[str]:
    """Yield the lines of a key of an entry whose value is a list.

    Args:
        key: The key.
        rows: The items, each in one line.
        last: No other key follows.
    """
    end = "" if last else ","
    before = None
    for row in rows:
        yield f'   "{key}": [' if before is None else f"    {before},"
        before = row
    if before is None:
        yield f'   "{key}": []{end}'
    else:
        yield f"    {before}"
        yield f"   ]{end}"
