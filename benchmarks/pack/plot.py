"""results.json as a picture for the front page: four small bar charts."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.lib.svg import FAINT, draw, draw_text
from benchmarks.pack.summary import GENERATED, OURS, Results, spread

_WIDTH = 860
_ROW = 22
_LEFT = 108  # tool names
_BAR = 215  # the longest bar
_CUT = 2.5  # times the median: longer bars are cut
_PANEL = _WIDTH // 2
_HEAD = 30
_COLOURS = {"ours": "#0b7a4b", "other": "#9aa5b1", "limit": "#d5dbe1"}
_LIMITS = ("cp", "dd to disk", "openssl dgst")


def svg(results: Results) -> str:
    """Return the picture of the large case."""
    case = results["cases"][GENERATED]
    tools = [tool for tool in case["tools"] if not tool.startswith(f"{OURS} ")]
    panels = [_panel(results, tools, *panel) for panel in _panels(case["raw_bytes"])]
    rows = [max(len(left[1]), len(right[1])) for left, right in (panels[:2], panels[2:])]
    tops = [44, 44 + _HEAD + rows[0] * _ROW + 16]
    height = tops[1] + _HEAD + rows[1] * _ROW + 26
    parts = [draw_text(14, 26, case["title"], size=15, weight="600")]
    for index, (title, bars) in enumerate(panels):
        parts += _bars(14 + index % 2 * _PANEL, tops[index // 2], title, bars)
    machine = results["machine"]
    caption = f"{machine['cores']} cores, {machine['cpu']}; medians of {results['rounds']} rounds. Less is better."
    parts.append(draw_text(14, height - 12, caption, size=11, colour=FAINT))
    return draw(_WIDTH, height, parts)


def _panels(raw_bytes: int) -> list[tuple[str, str, str, float, str]]:
    return [
        ("Size, of the files' own", "pack", "size_bytes", 1 / raw_bytes, "{:.3f}"),
        ("Pack, seconds", "pack", "wall_seconds", 1, "{:.1f}"),
        ("Install, seconds", "install", "wall_seconds", 1, "{:.1f}"),
        ("Verify, seconds", "verify", "wall_seconds", 1, "{:.1f}"),
    ]


def _panel(
    results: Results, tools: list[str], title: str, action: str, key: str, factor: float, form: str
) -> tuple[str, list[tuple[str, float, str]]]:
    bars = []
    for tool in tools:
        if value := spread(results, GENERATED, tool, action, key):
            bars.append((tool, value.median * factor, form.format(value.median * factor)))
    return title, bars


def _bars(x: int, y: int, title: str, bars: list[tuple[str, float, str]]) -> Iterator[str]:
    yield draw_text(x, y + 14, title, weight="600")
    # One very slow tool would leave the others' bars too short to compare: its own is cut, and says so.
    longest = min(max((value for _, value, _ in bars), default=1), _CUT * _middle(bars))
    for row, (tool, value, shown) in enumerate(bars):
        top = y + _HEAD + row * _ROW
        kind = "ours" if tool == OURS else "limit" if tool in _LIMITS else "other"
        width = max(1.0, min(1.0, value / longest) * _BAR)
        weight = "600" if kind == "ours" else "400"
        yield draw_text(x + _LEFT - 8, top + 12, tool, anchor="end", weight=weight)
        yield (
            f'<rect x="{x + _LEFT}" y="{top}" width="{width:.1f}" height="{_ROW - 6}" rx="2" fill="{_COLOURS[kind]}"/>'
        )
        if value > longest:
            left = x + _LEFT + _BAR - 26
            yield f'<path d="M{left} {top - 1}l-6 {_ROW - 4}h6l6 -{_ROW - 4}z" fill="#ffffff"/>'
        yield draw_text(x + _LEFT + int(width) + 6, top + 12, shown, weight=weight)


def _middle(bars: list[tuple[str, float, str]]) -> float:
    return statistics.median([value for _, value, _ in bars]) if bars else 1.0
