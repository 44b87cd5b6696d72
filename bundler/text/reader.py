"""The one reader for what people write: a parsed file becomes dataclasses, or a list of everything wrong with it.

Rule book:

* the shape of a file is that of the dataclasses (`bundler.text.shapes`); ranges, checks and words for a writer
  who got it wrong stand in the metadata of their fields (`bundler.text.rules`);
* a fault is noted with its key path and line, and reading goes on, so that one run names them all;
* an unknown key is a fault, with the key that may have been meant: what is misspelt must not be ignored;
* a value that is wrong is replaced by a blank one. What was read is only to be used when `Reader.faults` is empty,
  or to find faults between keys;
* whatever the text holds, reading it takes time in proportion to its length.

A dataclass may have a method `conflicts`, which returns ``(key, message)`` for what is wrong between its keys; it is
asked when each of them is right. YAML and JSON differ in `bundler.text.trees` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, TypeVar, cast

from bundler.text.fault import Fault, sort_faults
from bundler.text.rules import Key, plain_text_problem
from bundler.text.shapes import AnyOf, Choice, Flag, Form, Many, Named, Number, Shape, Slot, Text, form_of
from bundler.text.trees import Tree
from bundler.text.wording import close_names, quoted

T = TypeVar("T")

# Nobody mends more than this in one go, and a hostile file can have millions.
MAX_FAULTS = 1000
# What a key may have meant is looked up for so many of them only: a look-up takes some 100 microseconds.
_MAX_SUGGESTIONS = 20


# A key's name and attribute, what takes a right value of it, and all that is known of it.
_Accepting = tuple[str, str, Callable[[Any], Any] | None, Slot]


class _TooManyFaultsError(Exception):
    """Reading is not worth going on with."""


def join(path: str, name: str | int) -> str:
    """Return the key path of an item of a list, or of a key, below `path`."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


class Reader:
    """Reads the nodes of one file.

    Attributes:
        tree: The language that the file is written in.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._faults: list[Fault] = []
        self._lines: dict[str, int] = {}
        self._suggestions = 0
        self._accepted: dict[Form, list[_Accepting]] = {}
        self._read: dict[type[Shape], Callable[[Any, Any, str, str | int, Key], Any]] = {
            Text: self._text,
            Flag: self._flag,
            Number: self._number,
            Choice: self._choice,
            Many: self._many,
            Named: self._named,
            AnyOf: self._any_of,
            Form: lambda form, node, path, name, key: self._form(form, node, join(path, name)),
        }

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What was found wrong, in the order of the file."""
        return sort_faults(self._faults)

    def fault(self, path: str, message: str, line: int | None = None) -> None:
        """Note a fault.

        Args:
            path: Key path; empty for the whole file.
            message: What was expected, what was found, what to write.
            line: Where it stands, when that is known.
        """
        if len(self._faults) == MAX_FAULTS:
            self._faults.append(Fault("", None, f"more than {MAX_FAULTS:,} faults; the rest was not looked at"))
        elif len(self._faults) < MAX_FAULTS:
            self._faults.append(Fault(path, line, message))

    def line(self, path: str) -> int | None:
        """Return the line of a value that was read."""
        return self._lines.get(path)

    def other_version(self, root: Any, name: str, known: int) -> str | None:
        """Return the version that a file says it has, where that is a whole number other than `known`.

        Such a file may mean anything by its keys, so nothing else in it should be judged.
        """
        node = (self.tree.items(root) or {}).get(name)
        found = None if node is None or self.tree.text(node) is not None else self.tree.number(node, int)
        return None if found is None or found == known else self.tree.spell(node)

    def read(self, cls: type[T], root: Any, *, variant: str = "") -> T | None:
        """Return what a file holds.

        Args:
            cls: The dataclass to make of it.
            root: The root node, None for an empty file.
            variant: Which variant of the class.

        Returns:
            An object with blanks in place of what is wrong; None when there is nothing to make one of.
        """
        try:
            return cast("T | None", self._form(form_of(cls, variant), root, ""))
        except _TooManyFaultsError:
            return None

    def _form(self, form: Form, node: Any, path: str) -> Any:
        items = self.tree.items(node)
        if items is None:
            found = "an empty file" if node is None and self.tree.has_lines else self.tree.describe(node)
            keys = f"the keys {form.listed};" if path or self.tree.has_lines else "a JSON object,"
            self._note(path, f"expected {keys} found {found}", self.tree.line(node))
            return None
        before = len(self._faults)
        if self.tree.has_lines or not items.keys() <= form.names:
            self._check_keys(node, path, form)
        values: dict[str, Any] = {}
        for name, attribute, accept, slot in self._accepting(form):
            value = items.get(name, MISSING)
            if value is MISSING:
                if slot.required:
                    missing = f"missing; {slot.key.missing}" if slot.key.missing else "missing"
                    self._note(join(path, name), missing, self.tree.line(node))
                    values[attribute] = slot.shape.blank
            elif accept is None or (good := accept(value)) is None:
                values[attribute] = self._slot(slot, value, path)
            else:
                values[attribute] = good
        if form.fills:
            sources = {"path": path, "variant": form.variant}
            values.update({attribute: sources[source] for attribute, source in form.fills.items()})
        made = form.cls(**values)
        if form.has_conflicts and len(self._faults) == before:
            for name, message in made.conflicts():
                self._note(join(path, name), message)
        return made

    def _accepting(self, form: Form) -> list[_Accepting]:
        found = self._accepted.get(form)
        if found is None:
            found = [(slot.name, slot.attribute, self._accept(slot), slot) for slot in form.slots]
            self._accepted[form] = found
        return found

    def _accept(self, slot: Slot) -> Callable[[Any], Any] | None:
        """Return what takes a right value, and returns None for any other, without the cost of a key path."""
        shape = slot.shape
        # The lines of values are noted by the slower way.
        if self.tree.has_lines or slot.key.check is not None or slot.key.store is not None:
            return None
        if isinstance(shape, Text):
            text, check = self.tree.text, shape.rule.check or plain_text_problem

            def accept(node: Any) -> str | None:
                found = text(node)
                return found if found is not None and check(found) is None else None

            return accept
        if isinstance(shape, Number):
            kind, number, limits = shape.kind, self.tree.number, shape.limits

            def accept_number(node: Any) -> float | None:
                found = number(node, kind)
                return found if found is not None and limits.accept(found) else None

            return accept_number
        return None

    def _check_keys(self, node: Any, path: str, form: Form) -> None:
        for name, line in self.tree.repeated(node):
            first = self.tree.key_line(node, name)
            self._note(join(path, name), f"stands twice; the first is in line {first}", line)
        for name, line in self.tree.odd_keys(node):
            self._note(path, f"expected a key, found {quoted(name)}; known keys: {form.listed}", line)
        for name in self.tree.items(node) or {}:
            if name not in form.names:
                self._note(
                    join(path, name), f"unknown key{self._meant(name, form)}", self.tree.key_line(node, name)
                )

    def _meant(self, name: str, form: Form) -> str:
        if name in form.reasons:
            return f" here; {form.reasons[name]}"
        if (synonym := form.synonyms.get(name.lower())) is not None:
            return f"; did you mean {synonym}?"
        self._suggestions += 1
        if self._suggestions > _MAX_SUGGESTIONS:
            return ""
        return close_names(name.lower(), form.names) or f"; known keys: {form.listed}"

    def _slot(self, slot: Slot, node: Any, path: str) -> Any:
        key = slot.key
        if key.null_is_empty and self.tree.is_null(node):
            return slot.shape.blank
        before = len(self._faults)
        value = self._item(slot.shape, node, path, slot.name, key)
        if key.check is not None and len(self._faults) == before and (problem := key.check(value)):
            self._refuse(node, path, slot.name, problem)
        return value if key.store is None else key.store(value)

    def _item(self, shape: Shape, node: Any, path: str, name: str | int, key: Key) -> Any:
        if (line := self.tree.line(node)) is not None:
            self._lines[join(path, name)] = line
        if shape.nullable and self.tree.is_null(node):
            return None
        return self._read[type(shape)](shape, node, path, name, key)

    def _text(self, shape: Text, node: Any, path: str, name: str | int, key: Key) -> str:
        text = self.tree.text(node)
        if text is None:
            found = f", found {self.tree.describe(node)}{self.tree.quote_hint(node)}"
            self._mismatch(shape, node, path, name, str, found)
            return ""
        check = shape.rule.check or plain_text_problem
        if problem := check(text):
            self._refuse(node, path, name, problem)
            return ""
        return text

    def _flag(self, shape: Flag, node: Any, path: str, name: str | int, key: Key) -> bool:
        flag = self.tree.flag(node)
        if flag is None:
            found = ", unquoted; found" if self.tree.text(node) in ("true", "false") else ", found"
            self._mismatch(shape, node, path, name, bool, f"{found} {self.tree.spell(node)}")
            return False
        return flag

    def _number(self, shape: Number, node: Any, path: str, name: str | int, key: Key) -> float:
        number = self.tree.number(node, shape.kind)
        if number is None:
            self._mismatch(shape, node, path, name, shape.kind, f", found {self.tree.spell(node)}")
            return 0
        if problem := shape.limits.problem(number):
            self._refuse(node, path, name, f"{problem}, found {self.tree.spell(node)}")
            return 0
        return number

    def _choice(self, shape: Choice, node: Any, path: str, name: str | int, key: Key) -> Any:
        found = self.tree.choice(node, shape.options)
        if found is None:
            if key.expected:
                words = f"expected {key.expected}, found {self.tree.describe(node)}"
            else:
                close = close_names(self.tree.text(node) or "", [str(option) for option in shape.options])
                listed = ", ".join(map(str, shape.options))
                words = f"expected one of {listed}; found {self.tree.spell(node)}{close}"
            self._refuse(node, path, name, words)
            return shape.blank
        return found

    def _many(self, shape: Many, node: Any, path: str, name: str | int, key: Key) -> tuple[Any, ...]:
        elements = self.tree.elements(node)
        place = join(path, name)
        if elements is None:
            self._refuse(node, path, name, self._no_list(shape, node, key))
            return ()
        if isinstance(shape.item, Form):
            return self._entries(shape.item, elements, place, key)
        values = []
        seen: set[str] = set()
        for index, element in enumerate(elements):
            before = len(self._faults)
            values.append(self._item(shape.item, element, place, index, key))
            if shape.unique and len(self._faults) == before:
                text = json.dumps(values[-1])
                if text in seen:
                    what = f"{quoted(values[-1])} stands" if isinstance(values[-1], str) else "stands"
                    self._refuse(element, place, index, f"{what} in the list twice")
                seen.add(text)
        return tuple(values)

    def _entries(self, form: Form, elements: Sequence[Any], path: str, key: Key) -> tuple[Any, ...]:
        items, made = self.tree.items, []
        for index, element in enumerate(elements):
            if items(element) is None:
                hint = f"; {key.instead(self.tree.text(element) or '')}" if callable(key.instead) else ""
                words = f"expected {self.tree.entry}, found {self.tree.describe(element)}{hint}"
                self._refuse(element, path, index, words)
            else:
                made.append(self._form(form, element, f"{path}[{index}]"))
        return tuple(made)

    def _named(self, shape: Named, node: Any, path: str, name: str | int, key: Key) -> Mapping[str, Any]:
        items = self.tree.items(node)
        if items is None:
            words = f"expected {key.expected or self.tree.words[dict]}, found {self.tree.describe(node)}"
            self._refuse(node, path, name, words)
            return {}
        place = join(path, name)
        for again, line in self.tree.repeated(node):
            first = self.tree.key_line(node, again)
            self._note(join(place, again), f"stands twice; the first is in line {first}", line)
        for odd, line in self.tree.odd_keys(node):
            self._note(place, f"expected a key that is text, found {quoted(odd)}; quote it", line)
        values = {}
        for item, value in items.items():
            check = shape.names.rule.check or plain_text_problem
            if problem := check(item):
                self._note(join(place, item), problem, self.tree.key_line(node, item))
            values[item] = self._item(shape.item, value, place, item, key)
        return values

    def _any_of(self, shape: AnyOf, node: Any, path: str, name: str | int, key: Key) -> Any:
        wanted = (
            Many if self.tree.elements(node) is not None else Named if self.tree.items(node) is not None else Text
        )
        option = next((option for option in shape.options if isinstance(option, wanted)), shape.options[0])
        return self._item(option, node, path, name, key)

    def _note(self, path: str, message: str, line: int | None = None) -> None:
        self.fault(path, message, line)
        if len(self._faults) > MAX_FAULTS:
            raise _TooManyFaultsError

    def _refuse(self, node: Any, path: str, name: str | int, message: str) -> None:
        self._note(join(path, name), message, self.tree.line(node))

    def _mismatch(self, shape: Shape, node: Any, path: str, name: str | int, kind: type, found: str) -> None:
        expected = self.tree.words[kind] + (" or null" if shape.nullable else "")
        self._refuse(node, path, name, f"expected {expected}{found}")

    def _no_list(self, shape: Many, node: Any, key: Key) -> str:
        found = f"expected {key.expected or self.tree.words[list]}, found {self.tree.describe(node)}"
        text = self.tree.text(node)
        if text and not isinstance(shape.item, Form):
            return f'{found}; write ["{quoted(text)[1:-1]}"]'
        return f"{found}; {key.instead}" if isinstance(key.instead, str) and key.instead else found
