"""Turn a parsed file that people write into dataclasses, or into a list of everything that is wrong with it.

Rule book:

* the dataclasses give the shape of a file (`bundler.text.shapes`); the metadata of their fields gives ranges, checks
  and the words for a person who got it wrong (`bundler.text.rules`);
* a fault is noted with its key path and line, and reading continues, so that one run names them all;
* an unknown key is a fault, with a suggestion: a misspelt key must not be ignored;
* a wrong value is replaced by a blank one. So the result may be used only when `Reader.faults` is empty, or to find
  faults between keys;
* reading takes time in proportion to the length of the text, whatever it holds.

A dataclass may have a method `conflicts`, which returns ``(key, message)`` for each fault between its keys. It is
called when each single key is right. Only `bundler.text.trees` knows the difference between YAML and JSON.
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

# More than a person corrects at once. A hostile file can have millions of faults.
MAX_FAULTS = 1000
# Only so many unknown keys get a suggestion: finding one takes some 100 microseconds.
_MAX_SUGGESTIONS = 20


# Name of a key, its attribute, a function that returns a right value and None for any other, and the whole slot.
_Acceptor = tuple[str, str, Callable[[Any], Any] | None, Slot]


class _TooManyFaultsError(Exception):
    """There are more than `MAX_FAULTS` faults, so reading stops."""


def join(path: str, name: str | int) -> str:
    """Return the path of a key, or of an item of a list, below the key path `path`."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


class Reader:
    """Reads the nodes of one file, and collects its faults.

    Attributes:
        tree: How to read a node: as YAML or as JSON.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._faults: list[Fault] = []
        self._lines: dict[str, int] = {}
        self._suggestions = 0
        self._acceptors: dict[Form, list[_Acceptor]] = {}
        self._read: dict[type[Shape], Callable[[Any, Any, str, str | int, Key], Any]] = {
            Text: self._read_text,
            Flag: self._read_flag,
            Number: self._read_number,
            Choice: self._read_choice,
            Many: self._read_list,
            Named: self._read_mapping,
            AnyOf: self._read_any,
            Form: lambda form, node, path, name, key: self._read_form(form, node, join(path, name)),
        }

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults found so far, in the order of the file."""
        return sort_faults(self._faults)

    def fault(self, path: str, message: str, line: int | None = None) -> None:
        """Note a fault.

        Args:
            path: Key path; empty for the whole file.
            message: What was expected, what was found, what to write.
            line: Its line, if known.
        """
        if len(self._faults) == MAX_FAULTS:
            self._faults.append(Fault("", None, f"more than {MAX_FAULTS:,} faults; the rest was not checked"))
        elif len(self._faults) < MAX_FAULTS:
            self._faults.append(Fault(path, line, message))

    def line(self, path: str) -> int | None:
        """Return the line of the value at the key path `path`; None if it was not read, or has no line."""
        return self._lines.get(path)

    def other_version(self, root: Any, name: str, *known: int) -> str | None:
        """Return the version that a file states, if it is a whole number that is not `known`; else None.

        In another version keys may mean something else, so the caller should report nothing else about the file.
        """
        node = (self.tree.items(root) or {}).get(name)
        found = None if node is None or self.tree.text(node) is not None else self.tree.number(node, int)
        return None if found is None or found in known else self.tree.spell(node)

    def read(self, cls: type[T], root: Any, *, variant: str = "") -> T | None:
        """Read a whole file into a dataclass.

        Args:
            cls: The dataclass.
            root: The root node, None for an empty file.
            variant: Which variant of the class (see `bundler.text.rules.Key`).

        Returns:
            An object with blanks in place of wrong values; None if the file is no mapping, or has too many faults.
        """
        try:
            return cast("T | None", self._read_form(form_of(cls, variant), root, ""))
        except _TooManyFaultsError:
            return None

    def _read_form(self, form: Form, node: Any, path: str) -> Any:
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
        for name, attribute, accept, slot in self._list_acceptors(form):
            value = items.get(name, MISSING)
            if value is MISSING:
                if slot.required:
                    missing = f"missing; {slot.key.missing}" if slot.key.missing else "missing"
                    self._note(join(path, name), missing, self.tree.line(node))
                    values[attribute] = slot.shape.blank
            elif accept is None or (good := accept(value)) is None:
                values[attribute] = self._read_slot(slot, value, path)
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

    def _list_acceptors(self, form: Form) -> list[_Acceptor]:
        found = self._acceptors.get(form)
        if found is None:
            found = [(slot.name, slot.attribute, self._make_acceptor(slot), slot) for slot in form.slots]
            self._acceptors[form] = found
        return found

    def _make_acceptor(self, slot: Slot) -> Callable[[Any], Any] | None:
        """Return a fast function that returns a right value, and None for any other; None if the slot has none.

        It saves the cost of a key path for each value of a large file.
        """
        shape = slot.shape
        # Only the slower way notes the lines of values.
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
            self._note(join(path, name), f"appears twice; the first is in line {first}", line)
        for name, line in self.tree.odd_keys(node):
            self._note(path, f"expected a key, found {quoted(name)}; known keys: {form.listed}", line)
        for name in self.tree.items(node) or {}:
            if name not in form.names:
                self._note(
                    join(path, name), f"unknown key{self._suggest_key(name, form)}", self.tree.key_line(node, name)
                )

    def _suggest_key(self, name: str, form: Form) -> str:
        if name in form.reasons:
            return f" here; {form.reasons[name]}"
        if (synonym := form.synonyms.get(name.lower())) is not None:
            return f"; did you mean {synonym}?"
        self._suggestions += 1
        if self._suggestions > _MAX_SUGGESTIONS:
            return ""
        return close_names(name.lower(), form.names) or f"; known keys: {form.listed}"

    def _read_slot(self, slot: Slot, node: Any, path: str) -> Any:
        key = slot.key
        if key.null_is_empty and self.tree.is_null(node):
            return slot.shape.blank
        before = len(self._faults)
        value = self._read_item(slot.shape, node, path, slot.name, key)
        if key.check is not None and len(self._faults) == before and (problem := key.check(value)):
            self._refuse(node, path, slot.name, problem)
        return value if key.store is None else key.store(value)

    def _read_item(self, shape: Shape, node: Any, path: str, name: str | int, key: Key) -> Any:
        if (line := self.tree.line(node)) is not None:
            self._lines[join(path, name)] = line
        if shape.nullable and self.tree.is_null(node):
            return None
        return self._read[type(shape)](shape, node, path, name, key)

    def _read_text(self, shape: Text, node: Any, path: str, name: str | int, key: Key) -> str:
        text = self.tree.text(node)
        if text is None:
            found = f", found {self.tree.describe(node)}{self.tree.quote_hint(node)}"
            self._refuse_type(shape, node, path, name, str, found)
            return ""
        check = shape.rule.check or plain_text_problem
        if problem := check(text):
            self._refuse(node, path, name, problem)
            return ""
        return text

    def _read_flag(self, shape: Flag, node: Any, path: str, name: str | int, key: Key) -> bool:
        flag = self.tree.flag(node)
        if flag is None:
            found = ", unquoted; found" if self.tree.text(node) in ("true", "false") else ", found"
            self._refuse_type(shape, node, path, name, bool, f"{found} {self.tree.spell(node)}")
            return False
        return flag

    def _read_number(self, shape: Number, node: Any, path: str, name: str | int, key: Key) -> float:
        number = self.tree.number(node, shape.kind)
        if number is None:
            self._refuse_type(shape, node, path, name, shape.kind, f", found {self.tree.spell(node)}")
            return 0
        if problem := shape.limits.problem(number):
            self._refuse(node, path, name, f"{problem}, found {self.tree.spell(node)}")
            return 0
        return number

    def _read_choice(self, shape: Choice, node: Any, path: str, name: str | int, key: Key) -> Any:
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

    def _read_list(self, shape: Many, node: Any, path: str, name: str | int, key: Key) -> tuple[Any, ...]:
        elements = self.tree.elements(node)
        place = join(path, name)
        if elements is None:
            self._refuse(node, path, name, self._describe_non_list(shape, node, key))
            return ()
        if isinstance(shape.item, Form):
            return self._read_entries(shape.item, elements, place, key)
        values = []
        seen: set[str] = set()
        for index, element in enumerate(elements):
            before = len(self._faults)
            values.append(self._read_item(shape.item, element, place, index, key))
            if shape.unique and len(self._faults) == before:
                text = json.dumps(values[-1])
                if text in seen:
                    what = f"{quoted(values[-1])} is" if isinstance(values[-1], str) else "is"
                    self._refuse(element, place, index, f"{what} in the list twice")
                seen.add(text)
        return tuple(values)

    def _read_entries(self, form: Form, elements: Sequence[Any], path: str, key: Key) -> tuple[Any, ...]:
        items, made = self.tree.items, []
        for index, element in enumerate(elements):
            if items(element) is None:
                hint = f"; {key.instead(self.tree.text(element) or '')}" if callable(key.instead) else ""
                words = f"expected {self.tree.entry}, found {self.tree.describe(element)}{hint}"
                self._refuse(element, path, index, words)
            else:
                made.append(self._read_form(form, element, f"{path}[{index}]"))
        return tuple(made)

    def _read_mapping(self, shape: Named, node: Any, path: str, name: str | int, key: Key) -> Mapping[str, Any]:
        items = self.tree.items(node)
        if items is None:
            words = f"expected {key.expected or self.tree.words[dict]}, found {self.tree.describe(node)}"
            self._refuse(node, path, name, words)
            return {}
        place = join(path, name)
        for again, line in self.tree.repeated(node):
            first = self.tree.key_line(node, again)
            self._note(join(place, again), f"appears twice; the first is in line {first}", line)
        for odd, line in self.tree.odd_keys(node):
            self._note(place, f"expected a key that is text, found {quoted(odd)}; quote it", line)
        values = {}
        for item, value in items.items():
            check = shape.names.rule.check or plain_text_problem
            if problem := check(item):
                self._note(join(place, item), problem, self.tree.key_line(node, item))
            values[item] = self._read_item(shape.item, value, place, item, key)
        return values

    def _read_any(self, shape: AnyOf, node: Any, path: str, name: str | int, key: Key) -> Any:
        wanted = (
            Many if self.tree.elements(node) is not None else Named if self.tree.items(node) is not None else Text
        )
        option = next((option for option in shape.options if isinstance(option, wanted)), shape.options[0])
        return self._read_item(option, node, path, name, key)

    def _note(self, path: str, message: str, line: int | None = None) -> None:
        self.fault(path, message, line)
        if len(self._faults) > MAX_FAULTS:
            raise _TooManyFaultsError

    def _refuse(self, node: Any, path: str, name: str | int, message: str) -> None:
        self._note(join(path, name), message, self.tree.line(node))

    def _refuse_type(self, shape: Shape, node: Any, path: str, name: str | int, kind: type, found: str) -> None:
        expected = self.tree.words[kind] + (" or null" if shape.nullable else "")
        self._refuse(node, path, name, f"expected {expected}{found}")

    def _describe_non_list(self, shape: Many, node: Any, key: Key) -> str:
        found = f"expected {key.expected or self.tree.words[list]}, found {self.tree.describe(node)}"
        text = self.tree.text(node)
        if text and not isinstance(shape.item, Form):
            return f'{found}; write ["{quoted(text)[1:-1]}"]'
        return f"{found}; {key.instead}" if isinstance(key.instead, str) and key.instead else found
