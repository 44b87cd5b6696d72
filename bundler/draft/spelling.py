"""How values and entries are written in a manifest."""

from __future__ import annotations

import json
import re
from dataclasses import fields

from bundler.plan.file_entry import FileEntry
from bundler.plan.manifest import Entry

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*[A-Za-z0-9_/-]|[A-Za-z]")
# YAML 1.1 reads these as something else than text.
_NOT_TEXT = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
# A longer list has a line for each item.
_LINE_CHARACTERS = 90


def spell_text(text: str) -> str:
    """Return a text as YAML: plain where that is safe, otherwise in quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return json.dumps(text, ensure_ascii=False)


def spell_items(key: str, values: tuple[str, ...]) -> list[str]:
    """Return the items of a list; those of `data_files` are JSON, which is YAML too."""
    if key != "data_files":
        return [spell_text(value) for value in values]
    choices = [json.loads(value) for value in values]
    return [
        spell_text(choice) if isinstance(choice, str) else json.dumps(choice, ensure_ascii=False)
        for choice in choices
    ]


def spell_list(key: str, values: tuple[str, ...], indent: str) -> list[str]:
    """Return the lines of a key with a list."""
    items = spell_items(key, values)
    line = f"{key}: [{', '.join(items)}]"
    if len(indent) + len(line) <= _LINE_CHARACTERS:
        return [f"{indent}{line}"]
    return [f"{indent}{key}:", *(f"{indent}  - {item}" for item in items)]


def list_values(entry: Entry) -> dict[str, str | bool | tuple[str, ...]]:
    """Return the keys of an entry that are not at their default, in the order in which they are written."""
    plain = Entry(kind=entry.kind, repo_id="")
    keys = [field.name for field in fields(Entry) if field.name not in ("kind", "path")]
    return {key: getattr(entry, key) for key in keys if getattr(entry, key) != getattr(plain, key)}


def spell_value(key: str, value: str | bool | tuple[str, ...], indent: str) -> list[str]:
    """Return the lines of a key with its value."""
    if isinstance(value, tuple):
        return spell_list(key, value, indent)
    return [f"{indent}{key}: {str(value).lower() if isinstance(value, bool) else spell_text(value)}"]


def spell_entry(entry: Entry, indent: str = "  ") -> list[str]:
    """Return the lines of an entry, as an item of its list."""
    lines = [line for key, value in list_values(entry).items() for line in spell_value(key, value, f"{indent}  ")]
    lines[0] = f"{indent}- {lines[0].strip()}"
    return lines


def spell_file(entry: FileEntry, indent: str = "  ") -> list[str]:
    """Return the lines of a file of another host, as an item of its list."""
    values = {"url": entry.url, "into": entry.into, "path": entry.path, "repo": entry.repo, "sha256": entry.sha256}
    lines = [
        f"{indent}  {key}: {value if key == 'url' else spell_text(value)}"
        for key, value in values.items()
        if value
    ]
    lines[0] = f"{indent}- {lines[0].strip()}"
    return lines


def spell_flow_entry(entry: Entry) -> str:
    """Return an entry in one line: ``{repo_id: org/name, aliases: [name]}``."""
    parts = []
    for key, value in list_values(entry).items():
        if isinstance(value, tuple):
            parts.append(f"{key}: [{', '.join(spell_items(key, value))}]")
        else:
            parts.append(spell_value(key, value, "")[0])
    return f"{{{', '.join(parts)}}}"
