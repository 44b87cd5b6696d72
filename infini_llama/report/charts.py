"""Draw line charts as SVG text, with axes, a legend and tooltips, for a page that loads no other files."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 36
_LEGEND_HEIGHT, _LEGEND_WIDTH = 20, 160
_LEGENDS_IN_A_ROW = 4
# Okabe and Ito's colours, which people with any colour vision can distinguish; then dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_DASHES = ("", "6 3", "2 2", "8 3 2 3")
_MOST_POINTS = 1000
_MOST_LABELS = 16

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A named line through points; a missing value makes a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


def line_chart(lines: Sequence[Line], *, x_label: str, y_range: tuple[float, float] | None = None) -> str:
    """Return a chart as an `<svg>` element.

    Args:
        lines: The lines; more than 16 get no legend, only tooltips.
        x_label: Label of the horizontal axis.
        y_range: Ends of the vertical axis; by default the range of the values.
    """
    known = [(x, y) for line in lines for x, y in line.points if y is not None and math.isfinite(y)]
    if not known:
        return '<p class="empty">nothing was measured</p>'
    x_low, x_high = _widen(min(x for x, _ in known), max(x for x, _ in known))
    y_low, y_high = y_range or _widen(min(y for _, y in known), max(y for _, y in known))
    has_legend = 1 < len(lines) <= _MOST_LABELS
    top = _TOP + (_LEGEND_HEIGHT * math.ceil(len(lines) / _LEGENDS_IN_A_ROW) if has_legend else 0)

    def place(x: float, y: float) -> Point:
        across = _LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT)
        down = HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - _BOTTOM - top)
        return across, down

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for y in ticks(y_low, y_high, 5):
        _, down = place(x_low, y)
        parts.append(f'<path class="grid" d="M{_LEFT} {down:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{label(y)}</text>')
    for x in ticks(x_low, x_high, 8):
        across, _ = place(x, y_low)
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - 20}" text-anchor="middle">{label(x)}</text>')
    middle = (WIDTH + _LEFT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{html.escape(x_label)}</text>')
    for number, line in enumerate(lines):
        colour, dash = _COLOURS[number % 7], _DASHES[number // 7 % 4]
        style = f'stroke="{colour}" stroke-dasharray="{dash}"'
        title = f"<title>{html.escape(line.name)}</title>"
        for run in _runs(thin(line.points)):
            points = [place(x, y) for x, y in run]
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path class="line" {style} d="M{path}">{title}</path>')
            if len(line.points) <= 30:
                parts += [_dot(*place(x, y), colour, f"{line.name}: {label(x)}, {y:.4g}") for x, y in run]
            elif len(points) == 1:
                parts.append(_dot(*points[0], colour, line.name))
        if has_legend:
            row, column = divmod(number, _LEGENDS_IN_A_ROW)
            x, y = _LEFT + column * _LEGEND_WIDTH, _TOP + row * _LEGEND_HEIGHT + 4
            parts.append(f'<path class="line" {style} d="M{x} {y}h18"/>')
            parts.append(f'<text x="{x + 23}" y="{y + 4}">{html.escape(line.name)}</text>')
    return "".join([*parts, "</svg>"])


def thin(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Return every n-th point and the last one, so that the page of a long run stays small."""
    step = math.ceil(len(points) / _MOST_POINTS)
    return [*points[:-1:step], *points[-1:]]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return about `about` round numbers between `low` and `high`."""
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def label(value: float) -> str:
    """Return the text for a number on an axis."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def _widen(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10)


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[Point]]:
    runs: list[list[Point]] = [[]]
    for x, y in points:
        if y is None or not math.isfinite(y):
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _dot(x: float, y: float, colour: str, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{html.escape(title)}</title></circle>'
