"""The questions that a reader asks about a node of a parsed file, answered for YAML and for JSON.

A YAML node knows its line and the text that was typed. A JSON node is a plain value, because a lock of 100,000 files
has too many nodes for anything larger.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bundler.text import yaml_nodes
from bundler.text.wording import quoted, shortened
from bundler.text.yaml_nodes import Scalar

# YAML 1.1 reads 1e-3 as text, because it requires a dot and a sign; people who train models write 1e-3.
# As Python reads numbers: an underscore stands between two digits.
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_NUMBER = re.compile(rf"[-+]?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WHOLE = re.compile(rf"[-+]?{_DIGITS}")
# Longer than any useful number. Python's int() refuses more than 4,300 digits, and matching `_NUMBER` takes time that
# grows with the square of the length.
_NUMBER_CHARACTERS = 100


class Tree(Protocol):
    """The questions. A method that returns a value returns None if the node is not of that type.

    Attributes:
        words: Type -> what its values are called in this language.
        entry: What a list item with keys is called.
        has_lines: Whether nodes know their lines.
    """

    words: Mapping[type, str]
    entry: str
    has_lines: bool

    def items(self, node: Any) -> Mapping[str, Any] | None:
        """Return key -> node of a mapping."""

    def elements(self, node: Any) -> Sequence[Any] | None:
        """Return the nodes of a list."""

    def text(self, node: Any) -> str | None:
        """Return the text of a string."""

    def flag(self, node: Any) -> bool | None:
        """Return a boolean."""

    def number(self, node: Any, kind: type[int] | type[float]) -> float | None:
        """Return a number of this kind; it may be infinite."""

    def choice(self, node: Any, options: Sequence[Any]) -> Any:
        """Return the one of `options` that the node is."""

    def is_null(self, node: Any) -> bool:
        """Return whether it is null."""

    def describe(self, node: Any) -> str:
        """Return what the node is, for people: ``a list``."""

    def spell(self, node: Any) -> str:
        """Return the text as typed, cut to fit into a message."""

    def quote_hint(self, node: Any) -> str:
        """Return what to write if the value was meant to be text."""

    def line(self, node: Any) -> int | None:
        """Return its 1-based line."""

    def key_line(self, node: Any, key: str) -> int | None:
        """Return the line of a key of a mapping."""

    def repeated(self, node: Any) -> Sequence[tuple[str, int]]:
        """Return the keys that appear again in a mapping, with their lines."""

    def odd_keys(self, node: Any) -> Sequence[tuple[str, int]]:
        """Return the keys of a mapping that are not text, with their lines."""


class YamlTree:
    """Nodes of `bundler.text.yaml_nodes`."""

    words: Mapping[type, str] = {
        str: "text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }
    entry = "an entry with keys"
    has_lines = True

    def items(self, node: Any) -> Mapping[str, Any] | None:
        return node.items if isinstance(node, yaml_nodes.Mapping) else None

    def elements(self, node: Any) -> Sequence[Any] | None:
        return node.items if isinstance(node, yaml_nodes.Sequence) else None

    def text(self, node: Any) -> str | None:
        return node.text if isinstance(node, Scalar) and node.type_name == "str" else None

    def flag(self, node: Any) -> bool | None:
        # `yes` and `on` are true in YAML 1.1 and text in YAML 1.2; a permission must not depend on the version.
        if isinstance(node, Scalar) and node.type_name == "bool" and node.text in ("true", "false"):
            return node.text == "true"
        return None

    def number(self, node: Any, kind: type[int] | type[float]) -> float | None:
        pattern = _WHOLE if kind is int else _NUMBER
        if not isinstance(node, Scalar) or len(node.text) > _NUMBER_CHARACTERS or not pattern.fullmatch(node.text):
            return None
        return kind(node.text)

    def choice(self, node: Any, options: Sequence[Any]) -> Any:
        if not isinstance(node, Scalar):
            return None
        # A quoted number is text. An unquoted word may be an option, even if YAML reads it as another type.
        fits = (o for o in options if str(o) == node.text and (isinstance(o, str) or node.type_name == "int"))
        return next(fits, None)

    def is_null(self, node: Any) -> bool:
        return isinstance(node, Scalar) and node.type_name == "null"

    def describe(self, node: Any) -> str:
        return str(node.described)

    def spell(self, node: Any) -> str:
        if not isinstance(node, Scalar) or not node.text:
            return str(node.described)
        return shortened(node.text)

    def quote_hint(self, node: Any) -> str:
        if self.is_null(node):
            return "; give a value or leave the key out"
        return f'; quote it: "{self.spell(node)}"' if isinstance(node, Scalar) else ""

    def line(self, node: Any) -> int | None:
        return None if node is None else int(node.line)

    def key_line(self, node: Any, key: str) -> int | None:
        return int(node.key_lines[key])

    def repeated(self, node: Any) -> Sequence[tuple[str, int]]:
        found: Sequence[tuple[str, int]] = node.repeated
        return found

    def odd_keys(self, node: Any) -> Sequence[tuple[str, int]]:
        found: Sequence[tuple[str, int]] = node.odd_keys
        return found


class JsonTree:
    """Plain values, as `bundler.text.strict_json` returns them: they have no lines."""

    words: Mapping[type, str] = {
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    entry = "an object"
    has_lines = False

    def items(self, node: Any) -> Mapping[str, Any] | None:
        return node if type(node) is dict else None

    def elements(self, node: Any) -> Sequence[Any] | None:
        return node if type(node) is list else None

    def text(self, node: Any) -> str | None:
        return node if type(node) is str else None

    def flag(self, node: Any) -> bool | None:
        return node if type(node) is bool else None

    def number(self, node: Any, kind: type[int] | type[float]) -> float | None:
        # In Python bool is a subclass of int, so true would be accepted as a size.
        return node if type(node) is kind or (kind is float and type(node) is int) else None

    def choice(self, node: Any, options: Sequence[Any]) -> Any:
        return next((option for option in options if type(option) is type(node) and option == node), None)

    def is_null(self, node: Any) -> bool:
        return node is None

    def describe(self, node: Any) -> str:
        if isinstance(node, float):
            return f"{node} (not whole)" if math.isfinite(node) else "a number too large"
        return self.words[type(node)]

    def spell(self, node: Any) -> str:
        if isinstance(node, str):
            return quoted(node)
        if type(node) is int:
            return str(node) if abs(node) < 10**_NUMBER_CHARACTERS else f"one of {len(str(node)):,} digits"
        return self.describe(node)

    def quote_hint(self, node: Any) -> str:
        return ""

    def line(self, node: Any) -> int | None:
        return None

    def key_line(self, node: Any, key: str) -> int | None:
        return None

    def repeated(self, node: Any) -> Sequence[tuple[str, int]]:
        return ()

    def odd_keys(self, node: Any) -> Sequence[tuple[str, int]]:
        return ()
