"""Compare an output with what is documented of it: undocumented keys, missing ones, and other types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from docs.generate.outputs import Output


def faults(output: Output, values: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the documentation of an output, of which `values` were seen.

    Every key must be documented, and have one of the documented types. Every documented key must have been seen, and be
    in each object that it belongs to unless the documentation says when it is there.
    """
    documented = {key.path: key for key in output.keys}
    problems: set[str] = set()
    seen: set[str] = set()
    for path, item in (pair for value in values for pair in _objects(value, "", set(documented))):
        here = {_below(path, name, set(documented)): content for name, content in item.items()}
        seen |= set(here)
        for below, content in here.items():
            if below not in documented:
                problems.add(f"{below}: not documented")
            elif (found := _type(content)) not in _allowed(documented[below].type):
                problems.add(f"{below}: documented as {documented[below].type}, seen as {found}")
        needed = {key.path for key in output.keys if _parent(key.path) == path and not key.when}
        problems |= {f"{below}: missing" for below in needed - set(here) if not below.endswith("*")}
    problems |= {f"{path}: documented, but never seen" for path in set(documented) - seen}
    return [f"{output.call}: {problem}" for problem in sorted(problems)]


def _objects(value: dict[str, Any], path: str, documented: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all objects in a value, itself first, each with its path."""
    yield path, value
    for name, item in value.items():
        below = _below(path, name, documented)
        if isinstance(item, dict):
            yield from _objects(item, below, documented)
        elif isinstance(item, list):
            for entry in item:
                if isinstance(entry, dict):
                    yield from _objects(entry, f"{below}[]", documented)


def _below(path: str, name: str, documented: set[str]) -> str:
    prefix = f"{path}." if path else ""
    return f"{prefix}*" if f"{prefix}*" in documented else f"{prefix}{name}"


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case dict():
            return "object"
        case list():
            kinds = {_type(item) for item in value}
            return f"array of {' and '.join(sorted(kinds))}s" if kinds else "array"
    raise TypeError(f"{value!r} is nothing that JSON has")


def _allowed(documented: str) -> set[str]:
    kinds = set(documented.split(" or "))
    if any(kind.startswith("array of ") for kind in kinds):
        kinds.add("array")
    if "number" in kinds:
        kinds.add("integer")
    return kinds
