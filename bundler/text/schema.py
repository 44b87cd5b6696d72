"""Make the JSON Schema of a file, for editors, from the dataclasses that the file is read into.

Descriptions come from the docstrings (Google style, `Attributes:`), constraints from `bundler.text.rules`. A schema
cannot express all that a reader checks, for instance two entries with one name.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from bundler.text.shapes import AnyOf, Choice, Flag, Form, Many, Named, Number, Shape, Slot, Text, form_of

_LIMITS = {"at_least": "minimum", "above": "exclusiveMinimum", "at_most": "maximum", "below": "exclusiveMaximum"}


def schema_text(cls: type[Any], *, title: str, description: str, **more: Any) -> str:
    """Return the text of a schema file.

    Args:
        cls: The dataclass that a whole file is read into.
        title: Title of the schema.
        description: What such a file is for.
        **more: More keys at the top of the schema.
    """
    definitions: dict[str, Any] = {}
    whole = _describe(form_of(cls), definitions)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "description": description}
    tail = {"$defs": dict(sorted(definitions.items()))} if definitions else {}
    return json.dumps({**head, **whole, **more, **tail}, indent=2, ensure_ascii=False) + "\n"


def meanings(cls: type[Any]) -> dict[str, str]:
    """Return attribute -> its description, from the docstring of a class."""
    _, _, listed = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def summary(cls: type[Any]) -> str:
    """Return the first line of the docstring of a class."""
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _describe(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:
    made = _describe_shape(shape, definitions) | dict(shape.rule.schema)
    if shape.nullable:
        made["type"] = [made["type"], "null"]
    if not shape.rule.name:
        return made
    definitions[shape.rule.name] = made
    return {"$ref": f"#/$defs/{shape.rule.name}"}


def _describe_shape(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:
    match shape:
        case Text():
            return {"type": "string"}
        case Flag():
            return {"type": "boolean"}
        case Number():
            limits = {
                k: getattr(shape.limits, a) for a, k in _LIMITS.items() if getattr(shape.limits, a) is not None
            }
            return {"type": "integer" if shape.kind is int else "number", **limits}
        case Choice():
            kind = {"type": "integer" if isinstance(shape.options[0], int) else "string"}
            return kind | ({"const": shape.options[0]} if len(shape.options) == 1 else {"enum": [*shape.options]})
        case Many():
            unique = {"uniqueItems": True} if shape.unique else {}
            return {"type": "array", **unique, "items": _describe(shape.item, definitions)}
        case Named():
            names = _describe(shape.names, definitions)
            return {
                "type": "object",
                **({} if names == {"type": "string"} else {"propertyNames": names}),
                "additionalProperties": _describe(shape.item, definitions),
            }
        case AnyOf():
            return {"anyOf": [_describe(option, definitions) for option in shape.options]}
        case Form():
            return _describe_form(shape, definitions)
    raise TypeError(f"no schema can be made of {shape!r}")


def _describe_form(form: Form, definitions: dict[str, Any]) -> dict[str, Any]:
    described = meanings(form.cls)
    required = [slot.name for slot in form.slots if slot.required]
    return {
        "type": "object",
        "additionalProperties": False,
        **({"required": required} if required else {}),
        "properties": {
            slot.name: _describe_key(slot, described.get(slot.attribute, ""), definitions) for slot in form.slots
        },
    }


def _describe_key(slot: Slot, description: str, definitions: dict[str, Any]) -> dict[str, Any]:
    made = _describe(slot.shape, definitions)
    if slot.key.null_is_empty:
        made["type"] = [made["type"], "null"]
    if isinstance(slot.default, str | bool | int | float):
        made["default"] = slot.default
    head = {"description": description.replace("`", "")} if description else {}
    return {**head, **made, **slot.key.schema}
