"""What a dataclass says of the file that it is read from: the metadata of its types and fields.

The annotation of a field gives the shape. Two more things can be said:

* `Rule`, of a type, wherever it stands: ``RepoId = Annotated[str, Rule(check=repo_id_problem)]``;
* `Key`, of one field, given by `key`: its name in the file, its range, and what to tell who gets it wrong.

`bundler.text.shapes` puts both together, `bundler.text.reader` reads by them, and `bundler.text.schema` makes the
schema for editors from them.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bundler.text.wording import quoted

# Returns what is wrong with a value, in words for the person who wrote it, or None.
Check = Callable[[Any], str | None]

_METADATA = "key"
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


# `eq=False`: two rules are never the same one, and as a part of a type a rule must have a hash.
@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """What values of a type must be, beyond their shape.

    Attributes:
        check: Says what is wrong with a value of the right shape.
        name: What the schema calls the type, which stands there once.
        schema: What of `check` a JSON Schema can say.
    """

    check: Check | None = None
    name: str = ""
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The range of a number; None is no limit."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def accept(self, number: float) -> bool:
        """Tell whether `problem` has nothing to say of a number, at less cost."""
        return (
            (self.at_least is None or number >= self.at_least)
            and (self.at_most is None or number <= self.at_most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
            and (isinstance(number, int) or math.isfinite(number))
        )

    def problem(self, number: float) -> str | None:
        """Say what was expected of a number, if it is not that."""
        # A whole number can be too large to be asked whether it is finite.
        if isinstance(number, float) and not math.isfinite(number):
            return "expected a finite number"
        for words, holds, limit in (
            ("at least", operator.ge, self.at_least),
            ("above", operator.gt, self.above),
            ("at most", operator.le, self.at_most),
            ("below", operator.lt, self.below),
        ):
            if limit is not None and not holds(number, limit):
                return f"expected {words} {f'{limit:,}' if isinstance(limit, int) else f'{limit:g}'}"
        return None


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is known of a field besides its type and default.

    Attributes:
        name: Of the key in the file, where it is not the field's.
        shape: The type in the file, where it is not the field's.
        required: The key must be there, whatever default the field has.
        store: Makes the field's value of one of that `shape`; it must take blank values too.
        check: Says what is wrong with the value as a whole.
        unique: A list has nothing twice.
        variant: Which variant of their class the values of a list are.
        not_in: Variants of this class that have no such key, each with the reason.
        filled_with: The field is no key: the reader fills in the key path, or the variant.
        synonyms: Other words that people write for this key.
        missing: What to write where the key must be there and is not.
        expected: What a value of another shape should have been.
        instead: What to write where the value has another shape; or, of a list, what to write for an item that is
            this text.
        null_is_empty: Take null for an empty list: YAML has it so where all items are commented out.
        schema: What the schema says besides.
    """

    name: str = ""
    shape: Any = None
    required: bool = False
    store: Callable[[Any], Any] | None = None
    check: Check | None = None
    unique: bool = False
    variant: str = ""
    not_in: Mapping[str, str] = dataclasses.field(default_factory=dict)
    filled_with: Literal["", "path", "variant"] = ""
    synonyms: tuple[str, ...] = ()
    missing: str = ""
    expected: str = ""
    instead: str | Callable[[str], str] = ""
    null_is_empty: bool = False
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    limits: Limits = Limits()


def key(
    default: Any = dataclasses.MISSING,
    about: Key | None = None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Return a dataclass field with what is known of its key.

    Args:
        default: Its value where the key is left out; without one the key must be there.
        about: What is known besides.
        at_least: The least that a number may be.
        above: What a number must be more than.
        at_most: The most that a number may be.
        below: What a number must be less than.
    """
    limits = Limits(at_least=at_least, above=above, at_most=at_most, below=below)
    described = dataclasses.replace(about or Key(), limits=limits)
    return dataclasses.field(default=default, metadata={_METADATA: described})


def plain_text_problem(text: str) -> str | None:
    """Say what is wrong with a text that has no check of its own: it is empty, or a terminal would obey it."""
    if not text:
        return "expected text, found an empty one"
    if _CONTROL_CHARACTERS.search(text):
        return f"{quoted(text)} has a control character"
    return None


def key_of(field: dataclasses.Field[Any]) -> Key:
    """Return what is known of a field, its name included."""
    found: Key = field.metadata.get(_METADATA) or Key()
    return found if found.name else dataclasses.replace(found, name=field.name)
