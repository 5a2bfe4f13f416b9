"""What is measured of one frame: of the model's answer, and of the picture that the model saw.

Training and device use this code, so that both measure alike.

>>> pixels = np.full((28, 28, 1), 51, np.uint8)
>>> of_frame(pixels, np.array([0.0, 1.0], np.float32))
[1.0, 1.0, 0.0, 0.2, 0.0, 1.0]
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Of the answer: the highest confidence, its distance to the second, the entropy as a share of its maximum.
#: Of the picture: the mean, and the root mean square of differences of neighbours in a row; shares of 255.
NAMES: Final = ("confidence", "margin", "entropy", "brightness", "sharpness")
LABEL: Final = len(NAMES)  # the place of the label's index, after the measures

MAX_VALUES: Final = 4_096  # of a picture that are looked at; of a larger one, evenly spaced rows


def of_frame(pixels: NDArray[np.uint8], scores: NDArray[np.float32]) -> list[float]:
    """Measure a prepared picture, uint8 (H, W, C), and the confidences, (labels,): NAMES and the label."""
    label = int(scores.argmax())
    top = float(scores[label])
    second = float(np.partition(scores, -2)[-2]) if len(scores) > 1 else 0.0
    rows = pixels[:: -(-pixels.size // MAX_VALUES)].astype(np.float32)
    values, channels = rows.reshape(-1), pixels.shape[2]
    steps = values[channels:] - values[:-channels]
    return [
        top,
        top - second,
        _entropy(scores),
        float(values.sum()) / values.size / 255,
        math.sqrt(float(steps.dot(steps)) / values.size) / 255,
        float(label),
    ]


def _entropy(scores: NDArray[np.float32]) -> float:
    if len(scores) < 2:
        return 0.0
    return abs(float(scores.dot(np.log(scores + np.float32(1e-9))))) / math.log(len(scores))
