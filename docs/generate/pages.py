"""Which pages are written by `make docs`, and whether they are current."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.lib.marks import Marks
from bundler.files.atomic import atomic_write
from bundler.plan.manifest import manifest_schema
from docs.generate import parts, picture, reference
from docs.generate.sources import ROOT
from infini_llama.settings.schema import settings_schema

MARKS = Marks("docs")
WHOLE: dict[str, Callable[[], str]] = {
    "manifests/schema.json": manifest_schema,
    "infini_llama/settings/schema.json": settings_schema,
    "docs/architecture.svg": picture.svg,
    "docs/reference/commands.md": reference.commands,
    "docs/reference/exit-codes.md": reference.exit_codes,
    "docs/reference/json.md": reference.json_page,
}


def decisions() -> str:
    """Return the list of decisions, each with the title of its page."""
    pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    titles = [(page.name, page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")) for page in pages]
    return "\n".join(f"- {name[:4]} [{title}]({name})" for name, title in titles)


# Documents of people in which one place is written.
PLACES: dict[str, Callable[[], str]] = {
    "docs/architecture.md": lambda: "\n\n".join(parts.table(project) for project in parts.PROJECTS),
    "docs/decisions/README.md": decisions,
}


def stale(root: Path = ROOT) -> list[str]:
    """Return the pages that are not what the code says now."""
    whole = [
        path
        for path, render in WHOLE.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != render()
    ]
    return whole + [path for path, render in PLACES.items() if MARKS.read(root / path) != render()]


def write(root: Path = ROOT) -> list[str]:
    """Write the pages that are not current; return their paths."""
    found = stale(root)
    for path in found:
        if path in WHOLE:
            atomic_write(root / path, WHOLE[path]().encode())
        else:
            MARKS.write(root / path, PLACES[path]())
    return found
