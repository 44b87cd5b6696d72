"""Put values from the command line into the tree of a configuration file, before it is read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from bundler.text import strict_yaml
from bundler.text.fault import COMMAND_LINE
from bundler.text.reader import Reader
from bundler.text.strict_yaml import StrictYamlError
from bundler.text.wording import quoted
from bundler.text.yaml_nodes import Mapping, Node, Scalar


def override(root: Node | None, overrides: Iterable[str], reader: Reader) -> Node | None:
    """Return the tree with the value of each `key.path=value` replaced or added.

    Args:
        root: The root node of the file.
        overrides: The overrides as typed; a value is YAML.
        reader: The reader to note faults in.
    """
    for text in overrides:
        path, equals, value_text = text.partition("=")
        if not equals or not re.fullmatch(r"\w+(\.\w+)*", path):
            reader.fault("", f"expected key.path=value, found {quoted(text)}", COMMAND_LINE)
            continue
        try:
            value = strict_yaml.read(value_text) or Scalar("", "null", COMMAND_LINE)
        except StrictYamlError as error:
            reader.fault(path, f"not valid YAML: {error.problem}", COMMAND_LINE)
            continue
        root = _replace(root, path.split("."), dataclasses.replace(value, line=COMMAND_LINE))
    return root


def _replace(node: Node | None, path: list[str], value: Node) -> Node:
    """Return the tree with `value` at `path`; missing mappings on the way are created."""
    if not path:
        return value
    if not isinstance(node, Mapping):
        node = Mapping({}, {}, (), (), COMMAND_LINE)
    items = {**node.items, path[0]: _replace(node.items.get(path[0]), path[1:], value)}
    return dataclasses.replace(node, items=items, key_lines={path[0]: COMMAND_LINE, **node.key_lines})
