"""Parse JSON from an untrusted source into plain values, in time and memory that grow with its length only.

Rule book:

* a key that appears twice in one object is refused; `json` would silently take the last;
* `NaN` and `Infinity`, which are no JSON, are refused;
* text must be valid Unicode: half of a surrogate pair (``\\ud800``) is refused here, where the file is known, because
  it could not be encoded later;
* nesting too deep for Python's recursion, and numbers of more digits than Python reads, are refused with a clear
  message.

`bundler.text.reader` turns the values into dataclasses.
"""

from __future__ import annotations

import json
from typing import Any


class StrictJsonError(Exception):
    """The text is not JSON, or breaks a rule of this module. The message is one sentence."""


def read(text: str) -> object:
    """Read one JSON value.

    Raises:
        StrictJsonError: The text is not JSON, or breaks a rule of this module.
    """
    try:
        tree: object = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise StrictJsonError(str(error)) from error
    except RecursionError as error:
        raise StrictJsonError("nested too deeply") from error
    except ValueError as error:
        # Python's int() refuses more digits than this, because its time grows with the square of their number.
        raise StrictJsonError("a number has more than 4,300 digits") from error
    # Half a surrogate pair can come only from an escape, so texts without one need no search.
    may_have_halves = "\\ud" in text or "\\uD" in text or not _is_unicode(text)
    if may_have_halves and (found := _find_surrogate(tree)) is not None:
        raise StrictJsonError(f"{found[:80]!r} is not valid Unicode: it has half of a surrogate pair")
    return tree


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise StrictJsonError(f"key {key[:80]!r} appears twice in one object")
            seen.add(key)
    return result


def _refuse_constant(name: str) -> None:
    raise StrictJsonError(f"{name} is not a number in JSON")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _find_surrogate(tree: object) -> str | None:
    """Return the first string that is not valid Unicode, without recursion."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            if not _is_unicode(node):
                return node
        elif isinstance(node, dict):
            waiting.extend(node)
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return None
