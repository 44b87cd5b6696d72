"""Make commented YAML with every key of the configuration, from the dataclasses that it is read into."""

from __future__ import annotations

import dataclasses
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from bundler.text.rules import Limits, key_of
from bundler.text.schema import meanings, summary
from infini_llama.settings.sections import Settings

_WIDTH = 100
_LIMITS = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
_TYPES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def reference() -> str:
    """Return YAML with all keys; comments give meaning, type and range, and the values are the defaults."""
    return "\n".join(_section(Settings, indent="")) + "\n"


def _section(kind: type[Any], *, indent: str) -> Iterator[str]:
    described, hints = meanings(kind), typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield ""
            yield from _comment(summary(hint), indent)
            yield f"{indent}{field.name}:"
            yield from _section(hint, indent=indent + "  ")
            continue
        is_required = field.default is dataclasses.MISSING
        value = "" if is_required else " " + yaml.safe_dump(field.default).removesuffix("...\n").strip()
        if typing.get_origin(hint) is tuple:
            (item, _) = typing.get_args(hint)
            yield from _comment(f"{described[field.name]} Each entry has these keys:", indent)
            for line in _section(item, indent=""):
                yield f"{indent}#   {line}"
            yield f"{indent}{field.name}:{value}"
            continue
        must = "; must be given" if is_required else ""
        yield from _comment(f"{described[field.name]} [{_type(hint, key_of(field).limits)}{must}]", indent)
        yield f"{indent}{field.name}:{value}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _type(hint: Any, limits: Limits) -> str:
    if typing.get_origin(hint) is types.UnionType:
        (kind,) = (part for part in typing.get_args(hint) if part is not type(None))
        return f"{_type(kind, limits)}, or null"
    if typing.get_origin(hint) is Literal:
        return " or ".join(typing.get_args(hint))
    ranges = [
        f"{words} {getattr(limits, name):,}"
        for name, words in _LIMITS.items()
        if getattr(limits, name) is not None
    ]
    return ", ".join([_TYPES[hint], *ranges])
