"""Parse YAML that people write by hand into a tree of nodes that know their lines; refuse surprising YAML.

Rule book:

* only mappings, sequences and scalars; tags, anchors, aliases, merge keys and several documents are refused, so a
  small file cannot grow into a big value (the "billion laughs") and no tag can name a Python object;
* a key that appears twice in one mapping is noted; PyYAML would silently take the last;
* text must be valid Unicode: half of a surrogate pair, which an escape can make, is refused with its line;
* a scalar keeps the text that was typed. YAML 1.1 reads `no` as false, `1.0` as a number and `2024-01-01` as a
  date; with the text a reader can say "quote it" instead of "expected a string".

`bundler.text.reader` turns the nodes into dataclasses.
"""

from __future__ import annotations

from typing import Any

import yaml

from bundler.text.yaml_nodes import Mapping, Node, Scalar, Sequence

MAX_DEPTH = 16

_TAG = "tag:yaml.org,2002:"


class StrictYamlError(Exception):
    """The text is not YAML, or breaks a rule of this module.

    Attributes:
        problem: What is wrong, in one sentence.
        line: 1-based, or None when unknown.
        column: 1-based, or None when unknown.
    """

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column


def read(text: str) -> Node | None:
    """Read one YAML document.

    Returns:
        The root node, or None when there is nothing but comments.

    Raises:
        StrictYamlError: The text is not YAML, or breaks a rule of this module.
    """
    try:
        # Read only the events first: they come from a loop and not from a recursion, so the depth can be checked.
        _refuse_surprises(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, [error.context, error.problem])) or "not valid YAML"
        if "'\\t'" in problem:
            problem += "; indent with spaces"
        if mark is None:
            raise StrictYamlError(problem) from error
        raise StrictYamlError(problem, mark.line + 1, mark.column + 1) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise StrictYamlError(f"the character {error.character!r} is not allowed in YAML", line) from error
    except (ValueError, OverflowError) as error:
        # PyYAML passes the number of an escape to chr() unchecked.
        raise StrictYamlError("an escape such as \\U00110000 is not a Unicode character") from error
    return None if root is None else _node(root)


def _refuse_surprises(text: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise StrictYamlError("a second document begins; expected one document per file", line, column)
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise StrictYamlError(
                "anchors (&) and aliases (*) are not supported; write the value out", line, column
            )
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise StrictYamlError(f"nested deeper than {MAX_DEPTH} levels", line, column)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise StrictYamlError(f"the tag {tag!r} is not supported", line, column)


def _node(node: Any) -> Node:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        _check_unicode(node)
        return Scalar(node.value, node.tag.removeprefix(_TAG), line)
    if isinstance(node, yaml.SequenceNode):
        return Sequence(tuple(_node(item) for item in node.value), line)
    items: dict[str, Node] = {}
    key_lines: dict[str, int] = {}
    repeated: list[tuple[str, int]] = []
    odd_keys: list[tuple[str, int]] = []
    for key, value in node.value:
        key_line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            _check_unicode(key)
        if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
            odd_keys.append((str(key.value) if isinstance(key, yaml.ScalarNode) else "a collection", key_line))
        elif key.value in items:
            repeated.append((key.value, key_line))
        else:
            items[key.value] = _node(value)
            key_lines[key.value] = key_line
    return Mapping(items, key_lines, tuple(repeated), tuple(odd_keys), line)


def _check_unicode(node: yaml.ScalarNode) -> None:
    try:
        node.value.encode()
    except UnicodeEncodeError as error:
        problem = f"{node.value[:80]!r} is not valid Unicode: it has half of a surrogate pair"
        raise StrictYamlError(problem, node.start_mark.line + 1, node.start_mark.column + 1) from error
