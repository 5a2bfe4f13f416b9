"""Is a model as often right as it is sure? Counts answers; draws nothing."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinship_training.metrics_model import Facts

BINS: Final = 10


class Bin(Facts):
    """The answers whose confidence lies within one tenth."""

    count: int
    confidence: float  # their mean; 0 when there are none
    accuracy: float  # the share of right ones


class Calibration(Facts):
    """Reliability, and the expected calibration error: Guo et al., https://arxiv.org/abs/1706.04599, (3)."""

    expected_error: float  # a share of 1: the mean of |accuracy - confidence| over all answers
    bins: tuple[Bin, ...]  # of equal width, from unsure to sure


def calibration(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Calibration:
    """Of answers (count,), each with its confidence, 0 to 1."""
    places = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
    bins = tuple(_bin(confidence[places == place], right[places == place]) for place in range(BINS))
    error = sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / len(right)
    return Calibration(expected_error=round(error, 6), bins=bins)


def _bin(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Bin:
    if not len(right):
        return Bin(count=0, confidence=0.0, accuracy=0.0)
    mean = float(confidence.mean(dtype=np.float64))
    return Bin(count=len(right), confidence=round(mean, 6), accuracy=round(float(right.mean()), 6))
