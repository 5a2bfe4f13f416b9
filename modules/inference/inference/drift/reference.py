"""The reference of a model: histograms of the measures of its validation pictures.

A reference has at most about 1.5 KB as JSON: nine bins of a measure, 64 groups of labels.

>>> found = np.column_stack([*[np.linspace(0, 1, 1_000)] * 5, np.arange(1_000) % 4])
>>> made = reference("classification", found, labels=4)
>>> made.measures["brightness"].shares
(0.01, 0.04, 0.15, 0.2, 0.2, 0.2, 0.15, 0.04, 0.01)
>>> made.classes
(0.25, 0.25, 0.25, 0.25)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import MAX_CLASS_GROUPS, Histogram, Reference, Task
from inference.drift.measures import LABEL, MEASURES

#: Narrow bins at the ends: a frame outside of what validation saw counts for much.
QUANTILES: Final = (0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
LEAST_PICTURES: Final = 100  # fewer say little about the ends


def reference(task: Task, found: NDArray[np.float64], labels: int) -> Reference | None:
    """Make the reference from what `of_frame` measured, one row a picture; None below LEAST_PICTURES."""
    if len(found) < LEAST_PICTURES:
        return None
    measures = MEASURES[task]
    groups = min(labels + len(measures.classes), MAX_CLASS_GROUPS)
    counts = np.bincount(found[:, LABEL].astype(int) % groups, minlength=groups)
    return Reference(
        frames=len(found),
        measures={name: _histogram(found[:, place]) for place, name in enumerate(measures.names)},
        classes=tuple(round(float(share), 5) for share in counts / len(found)),
    )


def _histogram(values: NDArray[np.float64]) -> Histogram:
    quantiles = np.quantile(values, QUANTILES, method="higher")
    # Many values may be the same: their bin is wide, and no bin is empty.
    edges = np.unique([float(f"{quantile:.5g}") for quantile in quantiles])
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    while (empty := np.flatnonzero(counts == 0)).size:
        place = int(empty[0])
        edges = np.delete(edges, min(place, len(edges) - 1))
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    shares = counts / len(values)
    return Histogram(edges=tuple(edges.tolist()), shares=tuple(round(float(each), 6) for each in shares))
