"""Add entries to the text of a manifest: comments, order and spelling of what is there stay as they are.

Rule book:

* only what must change is changed: a new entry, a new key, a new item of a list, a permission;
* places are found by the marks of YAML nodes, edits are made in the text, from its end to its beginning;
* the result is parsed by the one reader of manifests, and must be what was wanted; otherwise nothing is written, and
  the lines to add are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import yaml

from bundler.draft.spelling import spell_entry, spell_file, spell_flow_entry, spell_items, spell_text, spell_value
from bundler.errors import ManifestError
from bundler.plan.file_entry import FileEntry
from bundler.plan.manifest import MANIFEST_VERSION, Entry, Manifest
from bundler.plan.names import RepoKind
from bundler.text.documents import document_address

# Kind of entry -> the list that has them, in the order of a manifest.
SECTIONS: dict[RepoKind, str] = {kind: f"{kind}s" for kind in get_args(RepoKind) if kind != "file"}
_LISTS = ("aliases", "allow_patterns", "configs", "data_dirs", "data_files")
_FLAGS = ("trust_remote_code", "allow_pickle")


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    text: str


def new_manifest(
    name: str, entries: Iterable[Entry], *, files: Sequence[FileEntry] = (), comment: str = ""
) -> str:
    """Return the text of a manifest with these entries.

    Args:
        name: The bundle's name.
        entries: At least one, unless there are files.
        files: Files of other hosts.
        comment: Lines for its head, without ``#``.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [f"version: {MANIFEST_VERSION}", f"name: {spell_text(name)}"]
    entries = tuple(entries)
    for kind, section in SECTIONS.items():
        if chosen := [entry for entry in entries if entry.kind == kind]:
            lines += ["", f"{section}:", *(line for entry in chosen for line in spell_entry(entry))]
    if files:
        lines += ["", "files:", *(line for entry in files for line in spell_file(entry))]
    text = "\n".join(lines) + "\n"
    _check(text, Manifest(name=name, entries=entries, files=tuple(files)), "manifest")
    return text


def empty_manifest(name: str, path: Path) -> str:
    """Return the text of a manifest without entries, which says how to go on.

    Args:
        name: The bundle's name.
        path: Where it will be.

    Raises:
        ManifestError: No bundle can have that name.
    """
    text = f"""\
# What to carry to machines without internet: {document_address("manifests/README.md#keys")}
#
#   bundle add openai-community/gpt2 -o {path}      adds an entry
#   bundle record -o {path} -- python train.py      adds all that a program loads
#   bundle fetch {path}                             makes the bundle
version: {MANIFEST_VERSION}
name: {spell_text(name)}                # the bundle will be {name}.tar.zst

# tokenizers:
#   - repo_id: openai-community/gpt2
#     aliases: [gpt2]               # another name that code loads it by
# models:
#   - repo_id: org/name
#     revision: main                # branch, tag or full commit
# datasets:
#   - repo_id: org/name
#     configs: [default]            # those to prepare for load_dataset
"""
    Manifest.parse(text, source=str(path), may_be_empty=True)
    return text


def edit_manifest(
    text: str, wanted: Iterable[Entry], *, files: Sequence[FileEntry] = (), source: str = "manifest"
) -> str:
    """Return the text of a manifest with entries added or widened.

    Args:
        text: A manifest without faults.
        wanted: Entries as they should be. One whose `path` is that of an entry in the manifest replaces it; it may
            have more than that in its lists, and more permissions. The others are new.
        files: Files of other hosts to add; those that the manifest has are passed over.
        source: The file's name for messages.

    Raises:
        ManifestError: The text has faults, or is written in a way that cannot be added to.
    """
    wanted = tuple(wanted)
    manifest = Manifest.parse(text, source=source, may_be_empty=True)
    changed = {entry.path: entry for entry in wanted if entry.path}
    added = [entry for entry in wanted if not entry.path]
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    newline = "\r\n" if "\r\n" in text else "\n"
    sections = {key.value: (key, value) for key, value in root.value}
    edits: list[_Edit] = []
    for before in manifest.entries:
        after = changed.get(before.path, before)
        if after != before:
            section, _, index = before.path.rstrip("]").partition("[")
            edits += _edit_entry(text, sections[section][1].value[int(index)], before, after, newline)
    for kind, section in SECTIONS.items():
        if entries := [entry for entry in added if entry.kind == kind]:
            spelled = _spell_entries(entries)
            edits.append(_add_to_section(text, sections.get(section), section, spelled, newline))
    there = {(entry.url, entry.into) for entry in manifest.files}
    new = [entry for entry in files if (entry.url, entry.into) not in there]
    if new:
        spelled = _Spelled(lambda indent: [line for entry in new for line in spell_file(entry, indent)], None)
        edits.append(_add_to_section(text, sections.get("files"), "files", spelled, newline))
    # At one place what is innermost comes first: they were found in this order.
    for _, edit in sorted(enumerate(edits), key=lambda pair: (pair[1].start, pair[0]), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    whole = tuple(changed.get(entry.path, entry) for entry in manifest.entries) + tuple(added)
    _check(text, replace(manifest, entries=whole, files=(*manifest.files, *new)), source)
    return text


def add_command(text: str, command: str, *, source: str = "manifest") -> str:
    """Return the text of a manifest with a command that proves; the same text where it has it.

    Args:
        text: A manifest without faults.
        command: For a shell, in one line.
        source: The file's name for messages.

    Raises:
        ManifestError: The text has faults, or is written in a way that cannot be added to.
    """
    before = Manifest.parse(text, source=source)
    if command in before.prove:
        return text
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    newline = "\r\n" if "\r\n" in text else "\n"
    section = next(((key, value) for key, value in root.value if key.value == "prove"), None)
    expected = replace(before, prove=(*before.prove, command))
    if section is not None and isinstance(section[1], yaml.ScalarNode):
        node = section[1]
        items = ", ".join(map(spell_text, expected.prove))
        edit = _Edit(node.start_mark.index, node.end_mark.index, f"[{items}]")
    else:
        spelled = _Spelled(lambda indent: [f"{indent}- {spell_text(command)}"], [spell_text(command)])
        edit = _add_to_section(text, section, "prove", spelled, newline)
    text = text[: edit.start] + edit.text + text[edit.end :]
    _check(text, expected, source)
    return text


def _check(text: str, expected: Manifest, source: str) -> None:
    try:
        found = Manifest.parse(text, source=source)
        fits = (found.digest(), found.prove) == (expected.digest(), expected.prove)
    except ManifestError:
        # Where the entries contradict each other, that is the fault to tell.
        _check_entries(expected, source)
        fits = False
    if not fits:
        spelled = [line for entry in expected.entries for line in spell_entry(entry)]
        if expected.prove:
            spelled += ["prove:", *(f"  - {spell_text(command)}" for command in expected.prove)]
        lines = "\n".join(spelled)
        raise ManifestError(
            f"{source}: it is written in a way that cannot be added to; nothing was changed",
            hint=f"add by hand what is missing there of:\n{lines}",
        )


def _check_entries(expected: Manifest, source: str) -> None:
    lines = [f"version: {expected.version}", f"name: {spell_text(expected.name)}"]
    for kind, section in SECTIONS.items():
        lines.append(f"{section}:")
        lines += [line for entry in expected.entries if entry.kind == kind for line in spell_entry(entry)]
    Manifest.parse("\n".join(lines) + "\n", source=f"{source}, with what would be added")


def _edit_entry(text: str, node: yaml.MappingNode, before: Entry, after: Entry, newline: str) -> list[_Edit]:
    values = {key.value: value for key, value in node.value}
    missing: dict[str, str | bool | tuple[str, ...]] = {}
    edits = []
    for key in (*_FLAGS, *_LISTS):
        old, new = getattr(before, key), getattr(after, key)
        if old == new:
            continue
        if key not in values:
            missing[key] = new
        elif key in _FLAGS:
            edits.append(_Edit(values[key].start_mark.index, values[key].end_mark.index, str(new).lower()))
        else:
            more = tuple(value for value in new if value not in (old or ()))
            edits.append(_add_items(text, values[key], spell_items(key, more), newline))
    if missing:
        edits.append(_add_keys(text, node, missing, newline))
    return edits


def _add_keys(
    text: str, node: yaml.MappingNode, missing: dict[str, str | bool | tuple[str, ...]], newline: str
) -> _Edit:
    first = node.value[0][0]
    if node.flow_style:
        place = _end(node.value[-1][1])
        parts = []
        for key, value in missing.items():
            items = f"[{', '.join(spell_items(key, value))}]" if isinstance(value, tuple) else None
            parts.append(f"{key}: {items}" if items else spell_value(key, value, "")[0])
        return _Edit(place, place, "".join(f", {part}" for part in parts))
    place = _line_end(text, _end(node.value[-1][1]))
    indent = " " * first.start_mark.column
    lines = [line for key, value in missing.items() for line in spell_value(key, value, indent)]
    return _Edit(place, place, "".join(f"{newline}{line}" for line in lines))


def _add_items(text: str, node: yaml.SequenceNode, items: list[str], newline: str) -> _Edit:
    if not node.value:
        place = node.start_mark.index + 1
        return _Edit(place, place, ", ".join(items))
    place = _end(node.value[-1])
    if node.flow_style:
        return _Edit(place, place, "".join(f", {item}" for item in items))
    place = _line_end(text, place)
    indent = " " * node.start_mark.column
    return _Edit(place, place, "".join(f"{newline}{indent}- {item}" for item in items))


@dataclass(frozen=True)
class _Spelled:
    """Items of a list, as lines with an indent, and as items of a list in one line, where there is such a form."""

    lines: Callable[[str], list[str]]
    items: list[str] | None


def _spell_entries(entries: list[Entry]) -> _Spelled:
    return _Spelled(
        lambda indent: [line for entry in entries for line in spell_entry(entry, indent)],
        [spell_flow_entry(entry) for entry in entries],
    )


def _add_to_section(
    text: str, section: tuple[yaml.Node, yaml.Node] | None, name: str, spelled: _Spelled, newline: str
) -> _Edit:
    if section is None:
        place = len(text)
        gap = "" if text.endswith("\n") else newline
        lines = ["", f"{name}:", *spelled.lines("  ")]
        return _Edit(place, place, gap + "".join(f"{line}{newline}" for line in lines))
    key, node = section
    lines = spelled.lines("  ")
    if not isinstance(node, yaml.SequenceNode):
        place = _line_end(text, key.end_mark.index)
    elif node.flow_style and node.value:
        return _add_items(text, node, spelled.items or [], newline)
    elif node.flow_style:
        return _Edit(node.start_mark.index, node.end_mark.index, "".join(f"{newline}{line}" for line in lines))
    else:
        place = _line_end(text, _end(node.value[-1]))
        indent = " " * node.start_mark.column
        lines = spelled.lines(indent)
    return _Edit(place, place, "".join(f"{newline}{line}" for line in lines))


def _end(node: yaml.Node) -> int:
    """Return where the text of a node ends; PyYAML counts what follows a block with it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _line_end(text: str, place: int) -> int:
    """Return the end of the line that a place is in: comments at its end belong to what is there."""
    found = text.find("\n", place)
    if found < 0:
        return len(text)
    return found - 1 if text[found - 1] == "\r" else found


def merge_entry(before: Entry, more: Entry) -> Entry:
    """Return an entry of a manifest with what another entry of the same repo and revision has besides.

    No list loses an item. Lists that mean everything when they are empty stay empty.
    """
    return replace(
        before,
        aliases=_join(before.aliases, (name for name in more.aliases if name != before.repo_id)),
        allow_patterns=(
            before.allow_patterns
            if before.allow_patterns is None or more.allow_patterns is None
            else _join(before.allow_patterns, more.allow_patterns)
        ),
        configs=_join_configs(before, more),
        data_files=_join(before.data_files, more.data_files),
        data_dirs=_join(before.data_dirs, more.data_dirs),
        trust_remote_code=before.trust_remote_code or more.trust_remote_code,
        allow_pickle=before.allow_pickle or more.allow_pickle,
    )


def _join(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old, *new)))


def _join_configs(before: Entry, more: Entry) -> tuple[str, ...]:
    takes_all = not (before.configs or before.data_files or before.data_dirs)
    # Beside choices of files all configurations are no longer meant: those in use must be named.
    if takes_all and not (more.data_files or more.data_dirs):
        return ()
    return _join(before.configs, more.configs)
