"""How well a model's confidence agrees with its accuracy.

Guo et al., https://arxiv.org/abs/1706.04599, equation (3).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.metrics_model import Bin, Calibration

BINS: Final = 10


def calibration(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Calibration:
    """From predictions, (count,) each: the confidence, 0 to 1, and whether the prediction is right.

    >>> calibration(np.array([0.75, 0.75], np.float32), np.array([True, False])).expected_error
    0.25
    """
    bin_of = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
    bins = tuple(_bin(confidence[bin_of == number], right[bin_of == number]) for number in range(BINS))
    error = sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / len(right)
    return Calibration(expected_error=round(error, 6), bins=bins)


def _bin(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Bin:
    if not len(right):
        return Bin(count=0, confidence=0.0, accuracy=0.0)
    mean = float(confidence.mean(dtype=np.float64))
    return Bin(count=len(right), confidence=round(mean, 6), accuracy=round(float(right.mean()), 6))
