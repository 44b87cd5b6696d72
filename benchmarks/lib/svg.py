"""Pictures for a README as SVG text: the paper, and words on it.

No plotting library: it would be the largest dependency of this repository, for a few shapes. Charts of a training,
which have axes and follow the colours of their page, are in `infini_llama.report.charts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

INK = "#1f2933"
FAINT = "#616e7c"


def draw(width: int, height: int, parts: Iterable[str]) -> str:
    """Return a picture: its parts on paper of its own, since the page around it may be dark."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
            f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def draw_text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    weight: str = "400",
    anchor: str = "start",
    colour: str = INK,
) -> str:
    """Return words that begin, have their middle or end at a point."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
