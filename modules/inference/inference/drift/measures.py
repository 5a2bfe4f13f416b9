"""What is measured of one frame: of the model's answer, and of the picture that the model saw.

Training and device use this code, so that both measure alike.

>>> pixels = np.full((28, 28, 1), 51, np.uint8)
>>> of_frame("classification", pixels, np.array([0.0, 1.0], np.float32))
[1.0, 1.0, 0.0, 0.2, 0.0, 1.0]
>>> found = np.array([[3, 0.75, 0, 0, 0.5, 0.5], [1, 0.5, 0, 0, 1, 1]], np.float32)
>>> of_frame("detection", pixels, found)
[0.75, 2.0, 0.2, 0.0, 3.0]
>>> of_frame("detection", pixels, found[:0])
[0.0, 0.0, 0.2, 0.0, -1.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.artefact import Task

LABEL: Final = -1  # the place of the label's index: after the measures
MAX_VALUES: Final = 4_096  # of a picture that are looked at; of a larger one, evenly spaced rows

Array = NDArray[np.float32]


class Measures(NamedTuple):
    """What is measured for a task."""

    names: tuple[str, ...]  # of the answer, then PICTURE
    of_answer: Callable[[Array], list[float]]  # the measures of the answer, and the label's index
    classes: tuple[str, ...] = ()  # of `class_mix`, after the model's labels


def of_frame(task: Task, pixels: NDArray[np.uint8], answer: Array) -> list[float]:
    """Measure a prepared picture, uint8 (H, W, C), and the answer of `heads`: the names, then the label."""
    *found, label = MEASURES[task].of_answer(answer)
    return [*found, *_of_picture(pixels), label]


def _of_scores(scores: Array) -> list[float]:
    """Of the confidences, (labels,): the highest, its distance to the second, entropy by its maximum."""
    label = int(scores.argmax())
    top = float(scores[label])
    second = float(np.partition(scores, -2)[-2]) if len(scores) > 1 else 0.0
    return [top, top - second, _entropy(scores), float(label)]


def _entropy(scores: Array) -> float:
    if len(scores) < 2:
        return 0.0
    return abs(float(scores.dot(np.log(scores + np.float32(1e-9))))) / math.log(len(scores))


def _of_detections(found: Array) -> list[float]:
    """Of (count, 6), highest score first: that score, and the count; without any, the label is -1."""
    if not len(found):
        return [0.0, 0.0, -1.0]
    return [float(found[0, 1]), float(len(found)), float(found[0, 0])]


def _of_picture(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """The mean, and the root mean square of differences of neighbours in a row; shares of 255."""
    rows = pixels[:: -(-pixels.size // MAX_VALUES)].astype(np.float32)
    values, channels = rows.reshape(-1), pixels.shape[2]
    steps = values[channels:] - values[:-channels]
    return float(values.sum()) / values.size / 255, math.sqrt(float(steps.dot(steps)) / values.size) / 255


PICTURE: Final = ("brightness", "sharpness")
MEASURES: Final[Mapping[Task, Measures]] = {
    "classification": Measures(("confidence", "margin", "entropy", *PICTURE), _of_scores),
    "detection": Measures(("confidence", "count", *PICTURE), _of_detections, ("nothing found",)),
}
