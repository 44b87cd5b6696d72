"""Add entries to the manifest in a file, or begin one. `bundle add`, `bundle scan -o` and `bundle init` call this."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bundler.draft.manifest_text import edit_manifest, empty_manifest, merge_entry, new_manifest
from bundler.draft.names import name_bundle
from bundler.errors import UsageError
from bundler.files.access import check_writable
from bundler.files.atomic import atomic_write
from bundler.plan.file_entry import FileEntry
from bundler.plan.manifest import Entry, Manifest, read_manifest


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of an entry that was to be added.

    Attributes:
        status: Whether the manifest got it, got more into one that it had, or had all of it.
        kind: tokenizer, model or dataset; file for one of another host.
        repo_id: The repo; of a file its address.
        revision: Branch, tag or commit; empty for a file.
    """

    status: Literal["added", "widened", "unchanged"]
    kind: str
    repo_id: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class Written:
    """A manifest that was added to.

    Attributes:
        manifest: Its path.
        created: Whether it is new.
        changes: One for each entry, in the order given.
    """

    manifest: Path
    created: bool
    changes: tuple[Change, ...]


def add_entries(
    path: Path,
    wanted: Sequence[Entry],
    *,
    files: Sequence[FileEntry] = (),
    name: str | None = None,
    comment: str = "",
) -> Written:
    """Add entries to the manifest at `path`, which keeps its text; a new one is begun where there is none.

    Args:
        path: The manifest.
        wanted: Entries without paths; at least one, unless there are files.
        files: Files of other hosts.
        name: The bundle's name in a new manifest; default from the file's name, or that of its folder.
        comment: Lines for the head of a new manifest.

    Raises:
        ManifestError: It has faults, or an entry contradicts it; nothing was changed.
        UsageError: `name` is another than the manifest's.
    """
    check_writable(path.absolute().parent)
    entries: list[Entry] = []
    known: set[tuple[str, str]] = set()
    text = None
    if path.exists():
        text = read_manifest(path)
        manifest = Manifest.parse(text, source=str(path), may_be_empty=True)
        if name is not None and name != manifest.name:
            raise UsageError(f"{path} is the manifest of {manifest.name}, not of {name}", hint="leave --name out")
        entries = list(manifest.entries)
        known = {(entry.url, entry.into) for entry in manifest.files}
    changes = (*(_put(entries, entry) for entry in wanted), *(_put_file(known, entry) for entry in files))
    if text is None:
        after = new_manifest(name or name_bundle(path), entries, files=files, comment=comment)
    else:
        after = edit_manifest(text, entries, files=files, source=str(path))
    if after != text:
        atomic_write(path, after.encode())
    return Written(manifest=path, created=text is None, changes=changes)


def begin_manifest(path: Path, *, name: str | None = None) -> str:
    """Write a manifest without entries, which says how to go on; return the bundle's name.

    Raises:
        UsageError: There is a file already; it was not changed.
    """
    check_writable(path.absolute().parent)
    if path.exists():
        raise UsageError(
            f"{path} is there already, and stays as it is", hint=f"add to it: bundle add REPO_ID -o {path}"
        )
    name = name or name_bundle(path)
    atomic_write(path, empty_manifest(name, path).encode())
    return name


def find_entry(entries: Iterable[Entry], wanted: Entry) -> int | None:
    """Return the place of the entry of a manifest that another asks for, or None.

    What takes weights takes a tokenizer too, and not the other way round.
    """
    kinds = (wanted.kind,) if wanted.kind != "tokenizer" else ("tokenizer", "model")
    names = {wanted.repo_id, *wanted.aliases}
    for index, entry in enumerate(entries):
        is_same = entry.revision == wanted.revision and not names.isdisjoint({entry.repo_id, *entry.aliases})
        if is_same and entry.kind in kinds:
            return index
    return None


def _put(entries: list[Entry], wanted: Entry) -> Change:
    index = find_entry(entries, wanted)
    status: Literal["added", "widened", "unchanged"] = "added"
    if index is None:
        entries.append(wanted)
    else:
        before = entries[index]
        entries[index] = replace(merge_entry(before, wanted), path=before.path)
        status = "unchanged" if entries[index] == before else "widened"
    return Change(status=status, kind=wanted.kind, repo_id=wanted.repo_id, revision=wanted.revision)


def _put_file(known: Container[tuple[str, str]], wanted: FileEntry) -> Change:
    status: Literal["added", "unchanged"] = "unchanged" if (wanted.url, wanted.into) in known else "added"
    return Change(status=status, kind="file", repo_id=wanted.url, revision="")
