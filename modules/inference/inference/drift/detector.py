"""CUSUM charts over the measures of frames, with a stated number of frames between false alarms.

Each measure has two charts, for higher and for lower values, each group of labels one, for more of it. A
chart adds the log-likelihood ratio of "shifted" to "as in the reference" of each frame, and begins again at
0 where the sum is negative (E. S. Page, Biometrika 41, 1954). "Shifted" is the reference's histogram, tilted
exponentially by one standard deviation, or four times the odds of a label. So the mean of the ratio itself is
1 without drift, and by Ville's inequality a sum that begins at a given frame ever reaches h with a
probability of at most exp(-h) (G. Lorden, Annals of Mathematical Statistics 42, 1971). A chart therefore
alarms within n frames with at most n · exp(-h), and all charts together, with h = ln(2 · T · charts), with at
most n / (2 · T): the mean number of frames to the first false alarm is at least T. That holds for any
histogram and for charts that depend on each other, but for frames that do not: see docs/drift.md.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import Histogram, Reference, Task
from inference.drift.measures import LABEL, MEASURES

SHIFT: Final = 1.0  # standard deviations
ODDS: Final = 4.0
CEILING: Final = 2.0  # of a sum: so that it comes back when the drift ends

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chart:
    """What a chart is about."""

    measure: str
    direction: str  # "higher", "lower", or "more of 7"


class Charts:
    """The charts of one reference: tables that are made once. Sums are in thresholds, so 1 is an alarm."""

    def __init__(self, task: Task, reference: Reference, labels: Sequence[str], frames: float) -> None:
        """`frames`: the mean number of frames to the first false alarm, at least."""
        self._edges: list[tuple[float, ...]] = []
        self._places: list[int] = []  # of the measures that have charts
        blocks: list[Array] = []  # (bins, charts of the measure)
        charts: list[list[Chart]] = []
        for place, name in enumerate(MEASURES[task].names):
            histogram = reference.measures.get(name)
            if histogram is not None and histogram.edges:
                self._places.append(place)
                self._edges.append(histogram.edges)
                blocks.append(_shifts(histogram))
                charts.append([Chart(name, "higher"), Chart(name, "lower")])
        self._groups = len(reference.classes)
        if self._groups > 1:
            blocks.append(_class_gains(reference))
            classes = (*labels, *MEASURES[task].classes)
            named = classes if len(classes) == self._groups else [f"group {n}" for n in range(self._groups)]
            charts.append([Chart("class_mix", f"more of {label}") for label in named])
        self.charts = tuple(chart for family in charts for chart in family)
        each = [math.log(2 * frames * len(charts) * len(family)) for family in charts for _ in family]
        self.thresholds = np.array(each)
        self._table = _diagonal(blocks) / self.thresholds
        self._starts = np.cumsum([0, *(len(block) for block in blocks)]).tolist()

    def gains(self, found: Sequence[float]) -> Array:
        """Return what one frame's measures add to each chart, (charts,)."""
        return self.gains_of(self.rows(found))

    def rows(self, found: Sequence[float]) -> list[int]:
        """Return the rows of the table of gains, one for each measure."""
        rows = [
            start + bisect_right(edges, found[place])
            for start, edges, place in zip(self._starts, self._edges, self._places, strict=False)
        ]
        if self._groups > 1:
            rows.append(self._starts[len(rows)] + int(found[LABEL]) % self._groups)
        return rows

    def gains_of(self, rows: Sequence[int] | NDArray[np.int64]) -> Array:
        """Return the sum of the table's rows: (charts,) for (measures,), and so for each of many frames."""
        gains: Array = np.add.reduce(self._table.take(rows, axis=0), axis=-2)
        return gains

    @staticmethod
    def advance(sums: Array, gains: Array) -> Array:
        """Return the sums after a frame, (…, charts)."""
        moved: Array = np.minimum(np.maximum(sums + gains, 0.0), CEILING)
        return moved


def _shifts(histogram: Histogram) -> Array:
    """The gains of both charts of a measure for each of its bins, (bins, 2)."""
    shares = np.array(histogram.shares) / sum(histogram.shares)
    middles = np.cumsum(shares) - shares / 2
    scores = np.array([NormalDist().inv_cdf(middle) for middle in middles])
    scores -= shares @ scores
    scores /= math.sqrt(float(shares @ scores**2))
    return np.column_stack([_tilted(shares, SHIFT * scores), _tilted(shares, -SHIFT * scores)])


def _tilted(shares: Array, exponents: Array) -> Array:
    """The log-likelihood ratios of the tilted histogram; the mean of their exponentials is 1."""
    tilted: Array = exponents - math.log(float(shares @ np.exp(exponents)))
    return tilted


def _class_gains(reference: Reference) -> Array:
    """The gains of the chart of each group (columns) for a frame with a label of each group (rows)."""
    # A label that validation never saw has half a picture.
    shares = np.maximum(np.array(reference.classes), 0.5 / reference.frames)
    shares = np.minimum(shares, 1 - 0.5 / reference.frames)
    more = ODDS * shares / (1 + (ODDS - 1) * shares)
    gains: Array = np.where(
        np.eye(len(shares)) == 1, np.log(more / shares), np.log((1 - more) / (1 - shares))
    )
    return gains


def _diagonal(blocks: Sequence[Array]) -> Array:
    """The blocks along the diagonal of one table, 0 elsewhere: a measure's rows move its own charts only."""
    table = np.zeros((sum(len(each) for each in blocks), sum(each.shape[1] for each in blocks)))
    row = column = 0
    for each in blocks:
        height, width = each.shape
        table[row : row + height, column : column + width] = each
        row, column = row + height, column + width
    return table
