"""What a reader asks a node of a parsed file, answered for YAML and for JSON.

A YAML node knows its line and the text that was typed. A JSON node is a plain value: a lock of 100,000 files has
too many of them for anything more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bundler.text import strict_yaml
from bundler.text.strict_yaml import Scalar
from bundler.text.wording import quoted, shortened

# YAML 1.1 takes 1e-3 for text, since it insists on a dot and a sign; people who train models write 1e-3.
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*)?\.?[0-9]+([eE][-+]?[0-9]+)?|[-+]?[0-9]+\.([eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]*")
# No number that anybody means is longer. Python's int() refuses more than 4,300 digits, and a match of `_NUMBER`
# takes time with their square.
_NUMBER_CHARACTERS = 100


class Tree(Protocol):
    """The questions. Those that return something return None when the node is no such thing.

    Attributes:
        words: What values of a type are called in this language.
        entry: What an item of a list that has keys is called.
        has_lines: Whether nodes know their lines.
    """

    words: Mapping[type, str]
    entry: str
    has_lines: bool

    def items(self, node: Any) -> Mapping[str, Any] | None:
        """Return the nodes of a mapping by their keys."""

    def elements(self, node: Any) -> Sequence[Any] | None:
        """Return the nodes of a list."""

    def text(self, node: Any) -> str | None:
        """Return text."""

    def flag(self, node: Any) -> bool | None:
        """Return true or false."""

    def number(self, node: Any, kind: type[int] | type[float]) -> float | None:
        """Return a number of this kind; it may be infinite."""

    def choice(self, node: Any, options: Sequence[Any]) -> Any:
        """Return the option that it is."""

    def is_null(self, node: Any) -> bool:
        """Tell whether it is null."""

    def describe(self, node: Any) -> str:
        """Return what it is, for people: ``a list``."""

    def spell(self, node: Any) -> str:
        """Return what was typed, as far as that fits into a message."""

    def quote_hint(self, node: Any) -> str:
        """Return what to write for a value that was meant to be text."""

    def line(self, node: Any) -> int | None:
        """Return its line."""

    def key_line(self, node: Any, key: str) -> int | None:
        """Return the line of a key of a mapping."""

    def repeated(self, node: Any) -> Sequence[tuple[str, int]]:
        """Return the keys of a mapping that stand there again, with their lines."""

    def odd_keys(self, node: Any) -> Sequence[tuple[str, int]]:
        """Return the keys of a mapping that are not text, with their lines."""


class YamlTree:
    """Nodes of `bundler.text.strict_yaml`: nothing is converted that YAML did not mean."""

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
        return node.items if isinstance(node, strict_yaml.Mapping) else None

    def elements(self, node: Any) -> Sequence[Any] | None:
        return node.items if isinstance(node, strict_yaml.Sequence) else None

    def text(self, node: Any) -> str | None:
        return node.text if isinstance(node, Scalar) and node.type_name == "str" else None

    def flag(self, node: Any) -> bool | None:
        # `yes` and `on` are true to YAML 1.1 and text to YAML 1.2; a permission must not depend on the reader.
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
        # A number in quotes is text; a word may be what YAML takes for something else.
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
        # bool is an int to Python, and would pass for a size.
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
