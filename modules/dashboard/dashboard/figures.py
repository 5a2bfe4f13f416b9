"""Figures of bounded size: messages in a second, percentiles of recent frames, right and wrong answers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Final

SERIES_S: Final = 60  # the rate's series has one number for each of these seconds
RATE_S: Final = 5  # whole seconds that the rate is the mean of
MAX_LABELS: Final = 100  # with an own row; the answers about others count in the accuracy only
MATRIX_LABELS: Final = 12  # more do not fit on the page: rows with precision and recall only


class Rate:
    """Events in a second, of the last SERIES_S seconds.

    >>> rate = Rate(0.0)
    >>> for tenth in range(100): rate.add(tenth / 10)
    >>> rate.per_second(10.0)
    10.0
    """

    def __init__(self, now_s: float) -> None:
        self._second = int(now_s)
        self._counts: deque[int] = deque([0], maxlen=SERIES_S + 1)  # the last one is of this second

    def add(self, now_s: float, events: int = 1) -> None:
        """Count events that happen now."""
        self._advance(now_s)
        self._counts[-1] += events

    def per_second(self, now_s: float) -> float:
        """The mean of the last RATE_S whole seconds, or of those since the start."""
        self._advance(now_s)
        whole = list(self._counts)[:-1][-RATE_S:]
        return sum(whole) / len(whole) if whole else 0.0

    def series(self, now_s: float) -> list[int]:
        """The counts of the last whole seconds, oldest first."""
        self._advance(now_s)
        return list(self._counts)[:-1]

    def _advance(self, now_s: float) -> None:
        missing = int(now_s) - self._second
        if missing > 0:
            self._second += missing
            self._counts.extend([0] * min(missing, SERIES_S + 1))


def percentile(values: Sequence[float], percent: int) -> float:
    """By nearest rank, as inference computes its own: always a measured value.

    >>> percentile([3.0, 1.0, 2.0], 50), percentile([3.0, 1.0, 2.0], 99)
    (2.0, 3.0)
    """
    return sorted(values)[-(-percent * len(values) // 100) - 1]


class Confusion:
    """Counts the answers of one model by truth and label."""

    def __init__(self) -> None:
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._truths: Counter[str] = Counter()
        self._given: Counter[str] = Counter()
        self._labels: dict[str, None] = {}
        self.right = 0
        self.of = 0

    def add(self, truth: str, label: str) -> None:
        """Count one answer."""
        self.of += 1
        self.right += truth == label
        for each in (truth, label):
            if len(self._labels) < MAX_LABELS:
                self._labels.setdefault(each)
        if truth in self._labels and label in self._labels:
            self._pairs[truth, label] += 1
            self._truths[truth] += 1
            self._given[label] += 1

    def view(self) -> dict[str, Any] | None:
        """Right answers, each label's precision and recall, and the matrix if it is small; None if empty."""
        if not self.of:
            return None
        labels = sorted(self._labels)
        matrix = [[self._pairs[truth, label] for label in labels] for truth in labels]
        return {
            "right": self.right,
            "of": self.of,
            "labels": labels,
            "matrix": matrix if len(labels) <= MATRIX_LABELS else None,
            "classes": [self._class(label) for label in labels],
        }

    def _class(self, label: str) -> dict[str, Any]:
        hits, true, given = self._pairs[label, label], self._truths[label], self._given[label]
        return {
            "label": label,
            "frames": true,
            "precision": hits / given if given else None,
            "recall": hits / true if true else None,
        }
