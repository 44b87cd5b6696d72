"""Nodes of a YAML file, which know their lines; `bundler.text.strict_yaml` makes them.

Apart from the parser, so that who reads a lock, which is JSON, does not load it.
"""

from __future__ import annotations

from dataclasses import dataclass

from bundler.text.wording import shortened

_PLAIN_TYPES = {"int": "a number", "float": "a number", "bool": "true or false", "null": "nothing"}


@dataclass(frozen=True)
class Scalar:
    """A single value.

    Attributes:
        text: The text as typed, without quotes.
        type_name: Its type in YAML 1.1: str, int, float, bool, null, timestamp, …
        line: 1-based line.
    """

    text: str
    type_name: str
    line: int

    @property
    def described(self) -> str:
        """What it is, for an error message."""
        if self.type_name == "str":
            return "text"
        if self.type_name == "null" and not self.text:
            return "nothing"
        return f"{_PLAIN_TYPES.get(self.type_name, f'a {self.type_name}')} ({shortened(self.text)})"


@dataclass(frozen=True)
class Sequence:
    """A list of nodes."""

    items: tuple[Node, ...]
    line: int

    @property
    def described(self) -> str:
        """What it is, for an error message."""
        return "a list"


@dataclass(frozen=True)
class Mapping:
    """Keys and their nodes, in the order of the file.

    Attributes:
        items: Key -> its first node.
        key_lines: Key -> its 1-based line.
        repeated: Keys that appear again, as (key, line).
        odd_keys: Keys that are not text, as (key as typed, line).
    """

    items: dict[str, Node]
    key_lines: dict[str, int]
    repeated: tuple[tuple[str, int], ...]
    odd_keys: tuple[tuple[str, int], ...]
    line: int

    @property
    def described(self) -> str:
        """What it is, for an error message."""
        return "a mapping"


Node = Scalar | Sequence | Mapping
