"""Average precision of detections at IoU 0.5, computed by pycocotools.

>>> truth = np.array([[[0, 0.1, 0.1, 0.5, 0.5]]], np.float32)
>>> found = [np.array([[0, 0.9, 0.1, 0.1, 0.5, 0.45]], np.float32)]
>>> round(precision(found, truth, 1, (100, 100)).mean, 6)
1.0
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

IOU: Final = 0.5
MOST: Final = 100  # detections of a picture that count


@dataclass(frozen=True, eq=False)
class Precision:
    """Shares of 1. A label without a box in the truth has nan, and does not count."""

    of_label: tuple[float, ...]  # average precision
    curves: NDArray[np.float64]  # (labels, 101): precision at recall 0, 0.01 … 1
    boxes: int  # in the truth
    found: int  # detections
    right: int  # detections that match a box

    @property
    def mean(self) -> float:
        """MAP50."""
        known = [each for each in self.of_label if not math.isnan(each)]
        return sum(known) / len(known) if known else 0.0

    @property
    def right_share(self) -> float:
        """Precision over all labels: detections that match a box; 1 without a detection."""
        return self.right / self.found if self.found else 1.0

    @property
    def found_share(self) -> float:
        """Recall over all labels: boxes that a detection matches; 1 without a box."""
        return self.right / self.boxes if self.boxes else 1.0


def precision(
    found: Sequence[NDArray[np.float32]], truth: NDArray[np.float32], labels: int, size: tuple[int, int]
) -> Precision:
    """Of the detections (n, 6) of each picture, as `inference.heads` answers them.

    `truth` is as `Pictures` says; `size` the (height, width) of the pictures.
    """
    from pycocotools.coco import COCO  # type: ignore[import-untyped]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

    with contextlib.redirect_stdout(io.StringIO()):  # it prints each of its steps
        known = COCO()
        known.dataset = _truth(truth, labels, size)
        known.createIndex()
        if not sum(map(len, found)) or not known.dataset["annotations"]:
            return _nothing(truth, labels, sum(map(len, found)))
        judge = COCOeval(known, known.loadRes(_results(found, size)), "bbox")
        judge.params.iouThrs = np.array([IOU])
        judge.params.areaRng, judge.params.areaRngLbl = [[0, math.inf]], ["all"]
        judge.params.maxDets = [MOST]
        judge.evaluate()
        judge.accumulate()
    curves = judge.eval["precision"][0, :, :, 0, 0].T
    curves[(curves < 0).all(axis=1)] = math.nan
    matches = [each["dtMatches"][0] for each in judge.evalImgs if each is not None]
    return Precision(
        tuple(curves.mean(axis=1).tolist()),
        curves,
        boxes=len(known.dataset["annotations"]),
        found=sum(map(len, matches)),
        right=sum(int((each > 0).sum()) for each in matches),
    )


def _nothing(truth: NDArray[np.float32], labels: int, found: int) -> Precision:
    boxes = int((truth[..., 0] >= 0).sum())
    present = np.isin(np.arange(labels), truth[..., 0])
    of_label = np.where(present, 0.0, math.nan)
    curves = np.repeat(of_label[:, None], 101, axis=1)
    return Precision(tuple(of_label.tolist()), curves, boxes=boxes, found=found, right=0)


def _truth(truth: NDArray[np.float32], labels: int, size: tuple[int, int]) -> dict[str, Any]:
    boxes = [(picture, row) for picture, rows in enumerate(truth) for row in rows if row[0] >= 0]
    annotations = []
    for identity, (picture, row) in enumerate(boxes, start=1):  # pycocotools takes 0 for no match
        sides = _pixels(row[np.newaxis, 1:], size)[0].tolist()
        annotations.append(
            {
                "id": identity,
                "image_id": picture,
                "category_id": int(row[0]),
                "bbox": sides,
                "area": sides[2] * sides[3],
                "iscrowd": 0,
            }
        )
    return {
        "images": [{"id": number} for number in range(len(truth))],
        "categories": [{"id": number} for number in range(labels)],
        "annotations": annotations,
    }


def _results(found: Sequence[NDArray[np.float32]], size: tuple[int, int]) -> NDArray[np.float64]:
    """(count, 7): picture, left, top, width, height, score, label."""
    tables = [
        np.column_stack((np.full(len(rows), picture), _pixels(rows[:, 2:], size), rows[:, 1], rows[:, 0]))
        for picture, rows in enumerate(found)
    ]
    results: NDArray[np.float64] = np.concatenate(tables).astype(np.float64)
    return results


def _pixels(corners: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    """(n, 4) of left, top, right, bottom in shares → left, top, width, height in pixels."""
    scaled = corners.astype(np.float64) * np.tile((size[1], size[0]), 2)
    return np.concatenate((scaled[:, :2], scaled[:, 2:] - scaled[:, :2]), axis=1)
