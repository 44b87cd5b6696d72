"""Every key of the configuration as commented YAML, made from the dataclasses that read it."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from infini_llama.settings.sections import Settings

_WIDTH = 100
_LIMITS = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
_TYPES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def reference() -> str:
    """Return all keys with what they mean, their types and ranges; those with a default have it as their value."""
    return "\n".join(_section(Settings, indent="")) + "\n"


def _section(kind: type[Any], *, indent: str) -> Iterator[str]:
    meanings, hints = _meanings(kind), typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield ""
            yield from _comment((inspect.getdoc(hint) or "").partition("\n")[0], indent)
            yield f"{indent}{field.name}:"
            yield from _section(hint, indent=indent + "  ")
            continue
        is_required = field.default is dataclasses.MISSING
        value = "" if is_required else " " + yaml.safe_dump(field.default).removesuffix("...\n").strip()
        must = "; must be given" if is_required else ""
        yield from _comment(f"{meanings[field.name]} [{_type(hint, field.metadata)}{must}]", indent)
        yield f"{indent}{field.name}:{value}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _type(hint: Any, limits: typing.Mapping[str, float]) -> str:
    if typing.get_origin(hint) is types.UnionType:
        (kind,) = (part for part in typing.get_args(hint) if part is not type(None))
        return f"{_type(kind, limits)}, or null"
    if typing.get_origin(hint) is Literal:
        return " or ".join(typing.get_args(hint))
    ranges = [f"{words} {limits[name]:,}" for name, words in _LIMITS.items() if name in limits]
    return ", ".join([_TYPES[hint], *ranges])


def _meanings(kind: type[Any]) -> dict[str, str]:
    """Return what the docstring says of each attribute (Google style)."""
    _, _, listed = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
