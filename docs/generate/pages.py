"""Which pages are written by `make docs`, and whether they are current."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bundler.files.paths import atomic_write
from docs.generate import reference
from docs.generate.sources import ROOT

WHOLE: dict[str, Callable[[], str]] = {
    "docs/reference/commands.md": reference.commands,
    "docs/reference/exit-codes.md": reference.exit_codes,
    "docs/reference/json.md": reference.json_page,
}


def stale(root: Path = ROOT) -> list[str]:
    """Return the pages that are not what the code says now."""
    return [
        path
        for path, render in WHOLE.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != render()
    ]


def write(root: Path = ROOT) -> list[str]:
    """Write the pages that are not current; return their paths."""
    found = stale(root)
    for path in found:
        atomic_write(root / path, WHOLE[path]().encode())
    return found
