"""What an output in JSON is made of: keys, each with its type, unit and meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from docs.generate.sources import field_types, meanings

_TYPES = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "Path": "string",
    "list[str]": "array of strings",
    "tuple[str, ...]": "array of strings",
}
_UNITS = {"bytes": "bytes", "seconds": "seconds"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of an output.

    Attributes:
        path: Where it is: ``repos[].files`` is the key `files` of each object in the array `repos`, and ``set.*`` any
            key of the object `set`.
        type: A word of JSON Schema, "array of strings", or one of them with " or null".
        meaning: One phrase for a reader.
        unit: What is counted; empty for what is no quantity.
        when: When it is there; empty for always.
    """

    path: str
    type: str
    meaning: str
    unit: str = ""
    when: str = ""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The JSON that one way of calling a command writes.

    Attributes:
        call: The way.
        summary: What it writes, and where if not to stdout.
        keys: All its keys, in the order in which they are written.
    """

    call: str
    summary: str
    keys: tuple[Key, ...]

    @property
    def anchor(self) -> str:
        """The heading's anchor in the page, as web forges make it."""
        kept = "".join(char for char in self.call.lower() if char.isalnum() or char in " -_")
        return kept.replace(" ", "-")


def key(path: str, type_: str, meaning: str, unit: str = "", when: str = "") -> Key:
    """Return a key; the unit of one whose name ends in it need not be given."""
    return Key(path=path, type=type_, meaning=meaning, unit=unit or _unit(path), when=when)


def described(path: str, type_: str, source: str, attribute: str = "", unit: str = "", when: str = "") -> Key:
    """Return a key whose meaning is what the docstring of a dataclass says of an attribute.

    Args:
        path: Of the key.
        type_: Of the value.
        source: ``path:Class``.
        attribute: Its name there; that of the key unless given.
        unit: What is counted.
        when: When the key is there; always unless given.

    Raises:
        LookupError: The docstring says nothing of it.
    """
    name = attribute or path.rpartition(".")[2]
    if name not in meanings(source):
        raise LookupError(f"{source}: expected the docstring to describe {name!r} under 'Attributes:'")
    # A docstring speaks of the Python value.
    return key(path, type_, re.sub(r"\bNone\b", "null", meanings(source)[name]), unit, when)


def fields(
    source: str,
    under: str = "",
    *,
    units: Mapping[str, str] | None = None,
    words: Iterable[str] = (),
    apart: Iterable[str] = (),
) -> tuple[Key, ...]:
    """Return a key for each field of a dataclass that is written as it is.

    Args:
        source: ``path:Class``.
        under: The path of the object that they stand in; empty for the whole output.
        units: Field -> what is counted.
        words: Fields that hold one of a few words, whatever their annotation.
        apart: Fields that are described apart.

    Raises:
        LookupError: The docstring does not describe a field, or a field's type is not known here.
    """
    found = []
    for name, annotation in field_types(source).items():
        if name in apart:
            continue
        base, or_null, _ = annotation.partition(" | None")
        base = "str" if name in words else base
        if base not in _TYPES:
            raise LookupError(f"{source}: {name} is a {annotation}: describe it apart, or name its JSON type here")
        type_ = _TYPES[base] + (" or null" if or_null else "")
        unit = (units or {}).get(name, "")
        found.append(described(f"{under}.{name}" if under else name, type_, source, unit=unit))
    return tuple(found)


def _unit(path: str) -> str:
    return _UNITS.get(path.rpartition(".")[2].rpartition("_")[2], "")
