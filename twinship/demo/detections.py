"""Judge the detections of a run by the boxes that the camera knows, with pycocotools as a training does.

>>> truth = '[{"label":"cat","box":{"l":0.1,"t":0.1,"w":0.4,"h":0.4}}]'
>>> judge([(truth, (("cat", 0.9, (0.1, 0.1, 0.4, 0.35)),))])
Judged(map50=1.0, precision=1.0, recall=1.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgekit.frame import boxes
from edgekit.frame.boxes import Box

Detection = tuple[str, float, tuple[float, float, float, float]]
"""Label, confidence, and left, top, width and height in shares of the picture."""

DECIMALS: Final = 6


@dataclass(frozen=True)
class Judged:
    """Shares of 1, over all labels, a detection being right from an intersection over union of 0.5 on.

    `precision`: right ones of all detections. `recall`: boxes that were found. `map50`: the mean over the
    labels of the average precision, of the detections that the module has sent.
    """

    map50: float
    precision: float
    recall: float


def judge(answers: Sequence[tuple[str | None, Sequence[Detection]]]) -> Judged | None:
    """The figures of (truth of the frame, its detections); None if no frame has boxes as its truth."""
    known = [
        (truth, found)
        for text, found in answers
        if text is not None and (truth := boxes.from_text(text)) is not None
    ]
    if not any(truth for truth, _ in known):
        return None
    from twinship_training.tasks.precision import precision

    labels = sorted(
        {each.label for truth, _ in known for each in truth}
        | {each[0] for _, found in known for each in found}
    )
    number = {label: index for index, label in enumerate(labels)}
    detections = [_detections(found, number) for _, found in known]
    measured = precision(detections, _table([truth for truth, _ in known], number), len(labels), (1, 1))
    return Judged(
        *(round(each, DECIMALS) for each in (measured.mean, measured.right_share, measured.found_share))
    )


def _detections(found: Sequence[Detection], number: dict[str, int]) -> NDArray[np.float32]:
    """(n, 6) as `inference.heads` answers them."""
    rows = [
        (number[label], confidence, left, top, left + width, top + height)
        for label, confidence, (left, top, width, height) in found
    ]
    return np.array(rows, np.float32).reshape(-1, 6)


def _table(truth: Sequence[Sequence[Box]], number: dict[str, int]) -> NDArray[np.float32]:
    """(count, most, 5) as `inference.dataset.pictures.Pictures` says."""
    table = np.full((len(truth), max(map(len, truth)), 5), -1, np.float32)
    for row, found in zip(table, truth, strict=True):
        for place, each in enumerate(found):
            row[place] = number[each.label], each.left, each.top, each.right, each.bottom
    return table
