"""The picture of the architecture: the data's way, and under it the packages by what they import. SVG, by hand.

Which packages there are, on which level each stands and which arrows there are follows from the tree. Where a box
stands from left to right is written here: only that keeps lines off boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from docs.generate.parts import LINES, PROJECTS, direct, order

_WIDTH = 900
_BOX = (96, 26)
_ROW = 50
_TOP = 196
_BOTTOM = 34
_COLUMN = 126
# Left edge of each project's part, and the place of each package in it, in columns.
_LEFT = {"bundler": 24, "infini_llama": 570}
_PLACES: dict[str, dict[str, float]] = {
    "bundler": {
        "cli": 0.7,
        "doctor": 1.65,
        "make": 2.6,
        "draft": 2.6,
        "offline": 1.15,
        "home": 1.15,
        "verify": 1.15,
        "trust": 2.4,
        "serve": 2.2,
        "format": 1.75,
        "hub": 3.2,
        "remote": 2.6,
        "transfer": 3.3,
        "parity": 0.1,
        "console": 0,
        "plan": 2,
        "files": 1.1,
        "text": 2.5,
    },
    "infini_llama": {
        "cli": 0.8,
        "tasks": 0.8,
        "train": 0.8,
        "data": 0,
        "model": 0.8,
        "parallel": 0.8,
        "report": 1.6,
        "settings": 0.3,
        "run_folder": 1.3,
    },
}


@dataclass(frozen=True)
class _Step:
    """A thing on the data's way, and what makes the next one of it."""

    thing: str
    note: str
    next_by: str


_WAY = (
    _Step("manifest", "what is wanted", "plan, hub"),
    _Step("lock", "commits, digests", "make"),
    _Step("store", "verified files", "make, format"),
    _Step("bundle", "one file", "home"),
    _Step("HF_HOME", "verified cache", "offline"),
    _Step("program", "network shut", ""),
)
# The step at which the file is carried over to a machine without internet.
_CARRIED = 3
_CAPTION = (
    "Arrows mean imports; those that others imply are left out. infini_llama imports bundler, never the reverse."
)
_INK, _PALE, _LINE = "#1f2933", "#616e7c", "#9aa5b1"
_PAPER, _FILL, _WAY_FILL = "#ffffff", "#eef2f6", "#d9f0e5"


def svg() -> str:
    """Return the picture.

    Raises:
        LookupError: A package has no line or no place.
    """
    levels = {project: order(project) for project in PROJECTS}
    height = _TOP + max(map(len, levels.values())) * _ROW + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
        f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{_LINE}"/></marker></defs>',
        # A page may be dark: the picture brings its own paper.
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="{_PAPER}"/>',
        *_way(),
    ]
    for project in PROJECTS:
        parts += _packages(project, levels[project], height - _BOTTOM)
    parts += [
        _text(24, height - 12, _CAPTION, _PALE),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _way() -> Iterator[str]:
    pitch = (_WIDTH - 48 + 50) / len(_WAY)
    width = pitch - 50
    yield _text(24, 26, "The data's way", size=15, weight="600")
    border = 24 + _CARRIED * pitch + width / 2
    yield f'<path d="M{border:.0f} 40V128" stroke="{_LINE}" stroke-dasharray="4 4"/>'
    yield _text(border - 10, 50, "with internet", _PALE, anchor="end")
    yield _text(border + 10, 50, "without", _PALE)
    for index, step in enumerate(_WAY):
        packages = [name for name in step.next_by.split(", ") if name]
        if unknown := set(packages) - set(LINES["bundler"]):
            raise LookupError(f"{step.thing}: expected packages of bundler, found {', '.join(sorted(unknown))}")
        x = 24 + index * pitch
        yield f'<rect x="{x:.0f}" y="64" width="{width:.0f}" height="44" rx="5" fill="{_WAY_FILL}"/>'
        yield _text(x + width / 2, 83, step.thing, weight="600", anchor="middle")
        yield _text(x + width / 2, 99, step.note, _PALE, size=10, anchor="middle")
        if packages:
            yield _arrow(x + width + 3, 86, x + pitch - 3, 86)
            for row, name in enumerate(packages):
                yield _text(x + width + 25, 76 + row * 24, name, size=10, anchor="middle")


def _packages(project: str, levels: list[list[str]], bottom: int) -> Iterator[str]:
    left = _LEFT[project]
    width, height = _BOX
    places: dict[str, tuple[float, float]] = {}
    for level, names in enumerate(levels):
        for name in names:
            if name not in _PLACES[project]:
                raise LookupError(f"{project}.{name}: give it a place in docs/generate/picture.py")
            places[name] = left + _PLACES[project][name] * _COLUMN, bottom - (level + 1) * _ROW
    yield _text(left, 164, f"{project}/", size=15, weight="600")
    # Lines first, so that boxes cover what passes behind them.
    for name, below in sorted(direct(project)):
        (x, y), (to_x, to_y) = places[name], places[below]
        yield _arrow(x + width / 2, y + height, to_x + width / 2, to_y - 1)
    for name, (x, y) in places.items():
        yield (
            f'<g><title>{escape(LINES[project][name])}</title><rect x="{x:.0f}" y="{y:.0f}" width="{width}" '
            f'height="{height}" rx="4" fill="{_FILL}" stroke="{_LINE}"/>'
            f"{_text(x + width / 2, y + 17, name, anchor='middle')}</g>"
        )


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    return (
        f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{to_x:.0f}" y2="{to_y:.0f}" stroke="{_LINE}" stroke-width="1.3" '
        'marker-end="url(#tip)"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    colour: str = _INK,
    *,
    size: int = 12,
    weight: str = "400",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
