"""The shapes that values can have in a file, found from the annotations of dataclasses.

| annotation | shape |
| --- | --- |
| ``str``, ``bool``, ``int``, ``float`` | `Text`, `Flag`, `Number` |
| ``Literal["a", "b"]`` | `Choice` |
| ``tuple[T, ...]`` | `Many` |
| ``Mapping[str, T]`` | `Named`: whoever writes the file chooses the keys |
| a dataclass | `Form`: the keys are its fields |
| ``T | None`` | the shape of ``T``, nullable |
| ``S | T`` | `AnyOf`: text, list or mapping; the value shows which |

``Annotated[T, Rule(…)]`` adds a rule to a shape. Any other annotation is a mistake in our code, and raises a
`TypeError` when the class is first used.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from bundler.text.rules import Key, Limits, Rule, key_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """What a value looks like. Shapes are compared by identity.

    Attributes:
        rule: What else the value must be.
        nullable: Whether null is accepted, and read as None.
    """

    rule: Rule = Rule()
    nullable: bool = False

    @property
    def blank(self) -> Any:
        """The value to use in place of a wrong one, so that reading can continue."""
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Text(Shape):
    """Text."""

    @property
    def blank(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Flag(Shape):
    """True or false."""

    @property
    def blank(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True, eq=False)
class Number(Shape):
    """A whole number (`kind` int) or any number (`kind` float)."""

    kind: type[int] | type[float]
    limits: Limits = Limits()

    @property
    def blank(self) -> float:
        return self.kind()


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice(Shape):
    """One of a few values."""

    options: tuple[Any, ...]

    @property
    def blank(self) -> Any:
        return self.options[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Many(Shape):
    """A list."""

    item: Shape
    unique: bool = False

    @property
    def blank(self) -> tuple[Any, ...]:
        return ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Named(Shape):
    """A mapping; whoever writes the file chooses its keys."""

    names: Shape
    item: Shape

    @property
    def blank(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class AnyOf(Shape):
    """Text, a list or a mapping."""

    options: tuple[Shape, ...]

    @property
    def blank(self) -> Any:
        return self.options[0].blank


@dataclass(frozen=True)
class Slot:
    """A key of a `Form`.

    Attributes:
        name: Its name in the file.
        attribute: Its name in the dataclass.
        shape: Shape of its value.
        key: The other rules for it.
        default: Its value if left out; `dataclasses.MISSING` if it must be given.
    """

    name: str
    attribute: str
    shape: Shape
    key: Key
    default: Any

    @property
    def required(self) -> bool:
        """Whether the key must be given."""
        return self.default is dataclasses.MISSING


@dataclass(frozen=True, kw_only=True, eq=False)
class Form(Shape):
    """A mapping whose keys are the fields of a dataclass.

    Attributes:
        cls: The dataclass.
        variant: Which variant of it.
        slots: Its keys, in the order of the class.
        fills: Fields that the reader fills in -> ``path`` or ``variant``.
        reasons: Keys that only other variants have -> why this one does not.
        synonyms: Other words that people write -> the key.
    """

    cls: type[Any]
    variant: str
    slots: tuple[Slot, ...]
    fills: Mapping[str, str]
    reasons: Mapping[str, str]
    synonyms: Mapping[str, str]

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """The names of all keys."""
        return frozenset(slot.name for slot in self.slots)

    @functools.cached_property
    def has_conflicts(self) -> bool:
        """Whether the class has a method `conflicts`, which finds faults between its keys."""
        return hasattr(self.cls, "conflicts")

    @functools.cached_property
    def listed(self) -> str:
        """The names of all keys in one text, for people."""
        return ", ".join(slot.name for slot in self.slots)


def form_of(cls: type[Any], variant: str = "") -> Form:
    """Return the shape of a dataclass; the same object each time."""
    return _form_of(typing.cast(Any, cls), variant)


@functools.cache
def _form_of(cls: Any, variant: str) -> Form:
    hints = typing.get_type_hints(cls, include_extras=True)
    slots, fills, reasons, synonyms = [], {}, {}, {}
    for field in dataclasses.fields(cls):
        key = key_of(field)
        if key.filled_with:
            fills[field.name] = key.filled_with
        elif variant in key.not_in:
            reasons[key.name] = key.not_in[variant]
        else:
            shape = _specify(_shape_of(hints[field.name] if key.shape is None else key.shape, key.variant), key)
            slots.append(Slot(key.name, field.name, shape, key, _default_of(field)))
            synonyms.update(dict.fromkeys(key.synonyms, key.name))
    return Form(cls=cls, variant=variant, slots=tuple(slots), fills=fills, reasons=reasons, synonyms=synonyms)


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if key_of(field).required:
        return dataclasses.MISSING
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _specify(shape: Shape, key: Key) -> Shape:
    """Return a shape with the range, or the uniqueness, that its key asks for."""
    if isinstance(shape, Number):
        return dataclasses.replace(shape, limits=key.limits)
    if isinstance(shape, Many):
        return dataclasses.replace(shape, unique=key.unique)
    return shape


def _shape_of(hint: Any, variant: str = "") -> Shape:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        (rule,) = (argument for argument in arguments[1:] if isinstance(argument, Rule))
        return dataclasses.replace(_shape_of(arguments[0], variant), rule=rule)
    if origin in (Union, types.UnionType):
        options = tuple(_shape_of(part, variant) for part in arguments if part is not types.NoneType)
        nullable = types.NoneType in arguments
        if len(options) == 1:
            return dataclasses.replace(options[0], nullable=nullable)
        return AnyOf(options=options, nullable=nullable)
    if origin is Literal:
        return Choice(options=arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return Many(item=_shape_of(arguments[0], variant))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Named(names=_shape_of(arguments[0]), item=_shape_of(arguments[1], variant))
    if hint is str:
        return Text()
    if hint is bool:
        return Flag()
    if hint in (int, float):
        return Number(kind=hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return form_of(hint, variant)
    raise TypeError(f"no file can be read into {hint!r}")
