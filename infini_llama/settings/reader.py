"""Reads a strict YAML tree into dataclasses: types, ranges and key names come from the classes themselves.

Rule book:

* a fault is noted with its key path and line, and reading goes on, so that one run names them all;
* nothing is converted that YAML did not mean: `yes` is no boolean, `2.5` no whole number;
* a field without a default must be there; a field that may be None takes `null`; nothing else does.

What a value means, and how values relate, is the caller's business (`infini_llama.settings.sections`).
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from bundler.plan.manifest import close_names
from bundler.text import strict_yaml
from bundler.text.strict_yaml import Node, Scalar, StrictYamlError

# YAML 1.1 takes 1e-3 for text, since it insists on a dot and a sign; people who train models write 1e-3.
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*)?\.?[0-9]+([eE][-+]?[0-9]+)?|[-+]?[0-9]+\.([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]*")

_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "at_least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "at_most": ("at most", operator.le),
    "below": ("below", operator.lt),
}
_EXPECTED = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}
# The line that values from the command line claim to stand in.
_COMMAND_LINE = 0

T = TypeVar("T")


def key(
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Return a dataclass field with a range, for numbers, and a default, unless the key must be there."""
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    return dataclasses.field(default=default, metadata={k: v for k, v in limits.items() if v is not None})


class SettingsReader:
    """Reads nodes into dataclasses.

    Attributes:
        faults: What was found wrong, one sentence each, with key path and line.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []

    def fault(self, path: str, node: Node | int | None, message: str) -> None:
        """Note a fault.

        Args:
            path: Key path, `training.steps`; empty for the whole file.
            node: Where it stands: a node, a line, or None for nowhere in particular.
            message: What was expected and what was found.
        """
        line = node if isinstance(node, int) or node is None else node.line
        place = "" if line is None else "(command line)" if line == _COMMAND_LINE else f"(line {line})"
        place = " ".join(filter(None, [path, place]))
        self.faults.append(f"{place}: {message}" if place else message)

    def overridden(self, root: Node | None, overrides: Iterable[str]) -> Node | None:
        """Return the tree with each `key.path=value` put in place of what stood there."""
        for override in overrides:
            path, equals, text = override.partition("=")
            if not equals or not re.fullmatch(r"\w+(\.\w+)*", path):
                self.fault("", _COMMAND_LINE, f"expected key.path=value, found {override!r}")
                continue
            try:
                value = strict_yaml.read(text) or Scalar("", "null", _COMMAND_LINE)
            except StrictYamlError as error:
                self.fault(path, _COMMAND_LINE, f"not valid YAML: {error.problem}")
                continue
            root = _replaced(root, path.split("."), dataclasses.replace(value, line=_COMMAND_LINE))
        return root

    def section(self, cls: type[T], node: Node | None, path: str = "") -> T | None:
        """Return a mapping as a dataclass, or None when it has faults."""
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if not isinstance(node, strict_yaml.Mapping):
            found = "nothing" if node is None else node.described
            self.fault(path, node, f"expected the keys {', '.join(fields)}; found {found}")
            return None
        prefix, before = f"{path}." if path else "", len(self.faults)
        for name, line in node.repeated:
            self.fault(f"{prefix}{name}", line, f"stands twice; the first is in line {node.key_lines[name]}")
        for name, line in node.odd_keys:
            self.fault(path, line, f"expected a key, found {name!r}")
        for name in node.items:
            if name not in fields:
                known = close_names(name, fields) or f"; known keys: {', '.join(fields)}"
                self.fault(f"{prefix}{name}", node.key_lines[name], f"unknown key{known}")
        hints, values = typing.get_type_hints(cls), {}
        for name, field in fields.items():
            if name in node.items:
                values[name] = self._value(hints[name], node.items[name], prefix + name, field.metadata)
            elif field.default is dataclasses.MISSING:
                self.fault(prefix + name, node, "missing")
        return cls(**values) if len(self.faults) == before else None

    def _value(self, hint: Any, node: Node, path: str, limits: Mapping[str, float]) -> Any:
        if dataclasses.is_dataclass(hint):
            return self.section(typing.cast(type, hint), node, path)
        optional = isinstance(hint, types.UnionType)
        if optional:
            hint = next(option for option in typing.get_args(hint) if option is not types.NoneType)
        if isinstance(node, Scalar):
            if node.type_name == "null" and optional:
                return None
            if typing.get_origin(hint) is Literal:
                return self._choice(typing.get_args(hint), node, path)
            if hint is bool and node.text in ("true", "false") and node.type_name == "bool":
                return node.text == "true"
            if hint is str and node.type_name == "str" and node.text:
                return node.text
            if hint in (int, float) and (_WHOLE if hint is int else _NUMBER).fullmatch(node.text):
                return self._number(hint, node, path, limits)
        found = node.text if isinstance(node, Scalar) and node.text else node.described
        self.fault(
            path, node, f"expected {_EXPECTED.get(hint, 'one value')}{' or null' * optional}, found {found}"
        )
        return None

    def _choice(self, options: tuple[str, ...], node: Scalar, path: str) -> str | None:
        if node.text in options:
            return node.text
        found = (node.text or "nothing") + close_names(node.text, options)
        self.fault(path, node, f"expected one of {', '.join(options)}; found {found}")
        return None

    def _number(self, kind: type, node: Scalar, path: str, limits: Mapping[str, float]) -> int | float:
        number: int | float = kind(node.text)
        if not math.isfinite(number):
            self.fault(path, node, f"expected a finite number, found {node.text}")
        for name, limit in limits.items():
            words, holds = _LIMITS[name]
            if not holds(number, limit):
                self.fault(path, node, f"expected {words} {limit:g}, found {node.text}")
        return number


def _replaced(node: Node | None, path: list[str], value: Node) -> Node:
    """Return the tree with `value` at `path`; mappings that are missing on the way are made."""
    if not path:
        return value
    if not isinstance(node, strict_yaml.Mapping):
        node = strict_yaml.Mapping({}, {}, (), (), _COMMAND_LINE)
    items = {**node.items, path[0]: _replaced(node.items.get(path[0]), path[1:], value)}
    return dataclasses.replace(node, items=items, key_lines={path[0]: _COMMAND_LINE, **node.key_lines})
