"""One call in a program: what it is called, and its arguments as far as they are known."""

from __future__ import annotations

import ast

from bundler.draft.scan.values import Known, UnknownValueError, Values


class OtherKindError(Exception):
    """A call asks for what a manifest has no entries for, or leaves the choice to a library."""


class Call:
    """One call: its arguments by name or place, as far as they are known.

    Args:
        node: Its syntax.
        values: Of its file.
        imported: What names of the file stand for.

    Attributes:
        name: What is called, as its module calls it.
        origin: Where a value comes from, if it may be another when the program runs; else empty.
    """

    def __init__(self, node: ast.Call, values: Values, imported: dict[str, str]) -> None:
        self._node = node
        self._values = values
        first, dot, rest = ast.unparse(node.func).partition(".")
        self.name = f"{imported.get(first, first)}{dot}{rest}"
        self.origin = ""

    def has(self, name: str, place: int | None = None) -> bool:
        """Tell whether an argument is given."""
        return self._find(name, place) is not None

    def get(self, name: str, place: int | None = None) -> object:
        """Return an argument; None if it is not given.

        Raises:
            UnknownValueError: It is not known.
        """
        node = self._find(name, place)
        known = Known(None) if node is None else self._values.resolve(node)
        self.origin = self.origin or known.origin
        return known.value

    def text(self, name: str, place: int | None = None) -> str | None:
        """Return an argument that must be text."""
        value = self.get(name, place)
        if value is not None and not isinstance(value, str):
            raise UnknownValueError(f"{name}={value!r}")
        return value

    def _find(self, name: str, place: int | None) -> ast.expr | None:
        for keyword in self._node.keywords:
            if keyword.arg == name:
                return keyword.value
        arguments = self._node.args
        if (
            place is None
            or place >= len(arguments)
            or any(isinstance(a, ast.Starred) for a in arguments[: place + 1])
        ):
            return None
        return arguments[place]
