"""A horizontal bar chart as SVG text, to be embedded in an HTML page.

>>> bars([Row("a", 1.0, 0, "1 ms")]).count("<rect")
1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 760
LABEL: Final = 230  # px for the label in front
ROW: Final = 26
COLOURS: Final = ("#2f6f9f", "#e08e45", "#6a9f58", "#b5525c", "#7d6b9e", "#5b8c8c", "#a0a0a0")


@dataclass(frozen=True)
class Row:
    """One bar."""

    label: str
    value: float
    colour: int  # index into COLOURS, modulo their number
    text: str  # behind the bar


def bars(rows: Sequence[Row]) -> str:
    """All bars to the same scale."""
    longest = max((row.value for row in rows), default=0) or 1.0
    scale = (WIDTH - LABEL - 150) / longest
    drawn = "".join(_row(row, ROW * index + 4, row.value * scale) for index, row in enumerate(rows))
    height = ROW * len(rows) + 8
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'font-family="sans-serif" font-size="13">{drawn}</svg>'
    )


def _row(row: Row, top: int, width: float) -> str:
    fill = COLOURS[row.colour % len(COLOURS)]
    return (
        _text(0, top + 14, row.label)
        + f'<rect x="{LABEL}" y="{top}" width="{max(width, 0.5):.1f}" height="18" fill="{fill}"/>'
        + _text(LABEL + width + 6, top + 14, row.text)
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
