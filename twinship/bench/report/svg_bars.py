"""A horizontal bar chart as SVG text, to be embedded in an HTML page.

>>> bars([Row("a", [(1.0, 0)], "1 ms")]).count("<rect")
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
    parts: Sequence[tuple[float, int]]  # length and index of the colour, from left to right
    text: str  # behind the bar

    @property
    def total(self) -> float:
        """The length of the whole bar."""
        return sum(value for value, _ in self.parts)


def bars(rows: Sequence[Row], legend: Sequence[str] = ()) -> str:
    """All bars to the same scale; `legend` names the colours in their order."""
    most = max((row.total for row in rows), default=0) or 1.0
    scale = (WIDTH - LABEL - 150) / most
    height = ROW * (len(rows) + (1 if legend else 0)) + 8
    drawn = [*_legend(legend), *(_row(row, index, scale, bool(legend)) for index, row in enumerate(rows))]
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'font-family="sans-serif" font-size="13">{"".join(drawn)}</svg>'
    )


def _row(row: Row, index: int, scale: float, below_legend: bool) -> str:
    top = ROW * (index + below_legend) + 4
    drawn, left = [_text(0, top + 14, row.label)], float(LABEL)
    for value, colour in row.parts:
        width = value * scale
        fill = COLOURS[colour % len(COLOURS)]
        drawn.append(
            f'<rect x="{left:.1f}" y="{top}" width="{max(width, 0.5):.1f}" height="18" fill="{fill}"/>'
        )
        left += width
    drawn.append(_text(left + 6, top + 14, row.text))
    return "".join(drawn)


def _legend(names: Sequence[str]) -> list[str]:
    drawn, left = [], 0
    for index, name in enumerate(names):
        drawn.append(
            f'<rect x="{left}" y="4" width="12" height="12" fill="{COLOURS[index % len(COLOURS)]}"/>'
        )
        drawn.append(_text(left + 17, 15, name))
        left += 32 + 8 * len(name)
    return drawn


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
