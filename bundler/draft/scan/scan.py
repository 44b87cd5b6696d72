"""Read files and folders of Python for what they load from the Hub and other hosts. `bundle scan` prints.

Rule book:

* nothing is imported, run or asked: the answer is what the text tells, and what it cannot tell is listed with its line;
* a folder is read as a whole, but for hidden folders and installed packages; of notebooks the cells with code;
* calls for one repo and revision become one entry: a model where one of them loads weights.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.draft.manifest_text import merge_entry
from bundler.draft.scan.calls import Found, Unknown, find_calls
from bundler.errors import UsageError
from bundler.plan.file_entry import FileEntry
from bundler.plan.manifest import Entry

_SUFFIXES = frozenset({".py", ".ipynb"})
_NOT_OURS = frozenset({"site-packages", "node_modules", "__pycache__", "build", "dist"})
_MOST_BYTES = 4 << 20
# What only a notebook understands.
_MAGIC = re.compile(r"^\s*[%!?].*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What source code tells.

    Attributes:
        files: How many files were read.
        entries: The repos to have in a manifest, in the order in which they were found.
        web_files: The files of other hosts.
        found: Each call that names a repo or such a file.
        unknown: Each call that loads something which the source does not tell, and files that are no Python.
    """

    files: int
    entries: tuple[Entry, ...]
    web_files: tuple[FileEntry, ...]
    found: tuple[Found, ...]
    unknown: tuple[Unknown, ...]


def scan(paths: Iterable[Path]) -> Scanned:
    """Read files and folders.

    Raises:
        UsageError: One of them is not there, or there is no Python in them.
    """
    files = list(dict.fromkeys(file for path in paths for file in _list_files(path)))
    if not files:
        raise UsageError(
            "there is no Python in what was named", hint="name .py or .ipynb files, or folders of them"
        )
    found: list[Found] = []
    unknown: list[Unknown] = []
    for file in files:
        for one in _scan_file(file):
            if isinstance(one, Found):
                found.append(one)
            else:
                unknown.append(one)
    return Scanned(
        files=len(files),
        entries=join_entries(one.entry for one in found if isinstance(one.entry, Entry)),
        web_files=tuple(dict.fromkeys(one.entry for one in found if isinstance(one.entry, FileEntry))),
        found=tuple(found),
        unknown=tuple(unknown),
    )


def join_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Make one entry of those of a repo at a revision: a model, if one of them is."""
    joined: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        key = (entry.repo_type, entry.repo_id, entry.revision)
        before = joined.get(key)
        if before is None:
            joined[key] = entry
            continue
        kind = before.kind if before.kind == entry.kind else "model"
        # Where one call takes the default choice of files, the entry does.
        both = None not in (before.allow_patterns, entry.allow_patterns)
        patterns = before.allow_patterns if both else None
        joined[key] = merge_entry(replace(before, kind=kind, allow_patterns=patterns), entry)
        if entry.kind == "dataset":
            # A call without a configuration means the default, which the card names.
            plain = not (_names_choice(before) and _names_choice(entry))
            joined[key] = replace(joined[key], configs=() if plain else joined[key].configs)
    return tuple(joined.values())


def _names_choice(entry: Entry) -> bool:
    return bool(entry.configs or entry.data_files or entry.data_dirs)


def _list_files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise UsageError(f"{path}: there is no such file or folder")
    for top, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_OURS)
        # A folder with this file is an environment with packages of others.
        if "pyvenv.cfg" in names:
            folders[:] = []
            continue
        yield from (Path(top, name) for name in sorted(names) if Path(name).suffix in _SUFFIXES)


def _scan_file(file: Path) -> Iterator[Found | Unknown]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"longer than {_MOST_BYTES} bytes")
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(_join_cells(text) if file.suffix == ".ipynb" else text)
        yield from find_calls(tree, str(file))
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        yield Unknown(f"{file}:{line}" if line else str(file), "", f"it cannot be read as Python: {error}")


def _join_cells(text: str) -> str:
    """Return the code of a notebook; lines are counted through all of its cells."""
    cells = json.loads(text).get("cells", [])
    code = ["".join(cell["source"]) for cell in cells if cell.get("cell_type") == "code"]
    return "\n".join(_MAGIC.sub("pass", cell) if not cell.startswith("%%") else "" for cell in code)
