"""How well a model's confidence agrees with its accuracy.

The expected calibration error of Guo et al., https://arxiv.org/abs/1706.04599, equation (3): the predictions
are put into ten bins of equal width by the confidence of the predicted label; it is the mean over all
predictions of |accuracy - mean confidence| of their bin.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.metrics_model import Bin, Calibration
from twinship_training.networks.calibrate import softmax

BINS: Final = 10
DRAWS: Final = 1_000
PERCENTILE: Final = 95


def calibration(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Calibration:
    """From predictions, (count,) each: the confidence, 0 to 1, and whether the prediction is right.

    >>> calibration(np.array([0.75, 0.75], np.float32), np.array([True, False])).expected_error
    0.25
    """
    bin_of = _bins(confidence)
    bins = tuple(_bin(confidence[bin_of == number], right[bin_of == number]) for number in range(BINS))
    return Calibration(
        expected_error=round(expected_error(confidence, right), 6),
        perfect_p95=round(perfect_p95(confidence), 6),
        bins=bins,
    )


def scaling(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> dict[str, float]:
    """The fields of Calibration about the float model, from its logits, divided by `temperature` already."""
    right = logits.argmax(axis=1) == labels
    before, after = (softmax(logits * factor).max(axis=1) for factor in (temperature, 1.0))
    return {
        "temperature": round(temperature, 6),
        "float_error_before": round(expected_error(before, right), 6),
        "float_error_after": round(expected_error(after, right), 6),
    }


def expected_error(confidence: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """The expected calibration error, a share of 1."""
    gaps = np.bincount(_bins(confidence), weights=right - confidence.astype(np.float64), minlength=BINS)
    return float(np.abs(gaps).sum() / len(right))


def perfect_p95(confidence: NDArray[np.float32]) -> float:
    """The error that 95 % of perfectly calibrated models with these confidences do not exceed.

    A finite number of pictures shows an error of such a model too. Drawn 1,000 times by a fixed seed.
    """
    random = np.random.default_rng(0)
    errors = [expected_error(confidence, random.random(len(confidence)) < confidence) for _ in range(DRAWS)]
    return float(np.percentile(errors, PERCENTILE))


def _bins(confidence: NDArray[Any]) -> NDArray[np.int64]:
    return np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)


def _bin(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Bin:
    if not len(right):
        return Bin(count=0, confidence=0.0, accuracy=0.0)
    mean = float(confidence.mean(dtype=np.float64))
    return Bin(count=len(right), confidence=round(mean, 6), accuracy=round(float(right.mean()), 6))
