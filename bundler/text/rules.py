"""Rules for the file that a dataclass is read from: the metadata of its types and fields.

The annotation of a field gives the shape. Two more things can be given:

* a `Rule` for a type, wherever it is used: ``RepoId = Annotated[str, Rule(check=repo_id_problem)]``;
* a `Key` for one field, given by `key`: its name in the file, its range, and the words for a wrong value.

`bundler.text.shapes` combines both, `bundler.text.reader` reads by them, and `bundler.text.schema` makes the schema
for editors from them.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bundler.text.wording import has_control_character, quoted

# Returns what is wrong with a value, in words for the person who wrote it; None if nothing is.
Check = Callable[[Any], str | None]

_METADATA = "key"


# `eq=False`: a rule is part of a type, so it needs a hash, and its fields have none; it is compared by identity.
@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """What values of a type must be, beyond their shape.

    Attributes:
        check: Returns what is wrong with a value of the right shape.
        name: Name of the type in the schema, where it is defined once.
        schema: The part of `check` that a JSON Schema can express.
    """

    check: Check | None = None
    name: str = ""
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The range of a number; None means no limit."""

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
        """Return what was expected of `number` if it is out of range; else None."""
        # math.isfinite raises OverflowError for a very large int.
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
    """What is known about a field besides its type and default.

    Attributes:
        name: Name of the key in the file, if it differs from the field's.
        shape: Type in the file, if it differs from the field's.
        required: The key must be given, whatever default the field has.
        store: Converts a value of that `shape` to the field's; it must accept blank values too.
        check: Returns what is wrong with the value as a whole.
        unique: A list must have no item twice.
        variant: Which variant of their class the items of a list are.
        not_in: Variants of this class that do not have this key, each with the reason.
        filled_with: The field is not a key: the reader fills in the key path, or the variant.
        synonyms: Other words that people write instead of this key.
        missing: What to write if the key is missing.
        expected: What to say was expected if the value has another shape.
        instead: What to write if the value has another shape. For a list: a function from the text of a wrong item to
            what to write for it.
        null_is_empty: Accept null as an empty list: a YAML list whose items are all commented out is null.
        schema: More keys for the schema.
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
    """Return a dataclass field with the rules for its key.

    Args:
        default: Its value if the key is left out; without a default the key must be given.
        about: All other rules.
        at_least: Lowest number allowed.
        above: The number must be greater than this.
        at_most: Highest number allowed.
        below: The number must be less than this.
    """
    limits = Limits(at_least=at_least, above=above, at_most=at_most, below=below)
    described = dataclasses.replace(about or Key(), limits=limits)
    return dataclasses.field(default=default, metadata={_METADATA: described})


def plain_text_problem(text: str) -> str | None:
    """Return what is wrong with a text that has no check of its own: it is empty, or has control characters."""
    if not text:
        return "expected text, found an empty one"
    if has_control_character(text):
        return f"{quoted(text)} has a control character"
    return None


def key_of(field: dataclasses.Field[Any]) -> Key:
    """Return the rules for a field, with its name filled in."""
    found: Key = field.metadata.get(_METADATA) or Key()
    return found if found.name else dataclasses.replace(found, name=field.name)
