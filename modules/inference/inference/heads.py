"""Turns the output tensors of a model into its answer: one function for each kind of head.

A classifier's answer is float32 (labels,): one confidence for each label. A detector's answer is float32
(count, 6), highest score first: index of the label, score, and the box as left, top, right and bottom in
shares of the model's input, 0 to 1. A detector answers at most `maxDetections` boxes of finite numbers, with
an area; a score that is not finite is an error, as it is of a classifier.

>>> decode = head(Head(kind="logits"), InputSpec(height=1, width=1, channels=1), labels=2)
>>> decode([np.array([[0.0, 0.0]], np.float32)]).tolist()
[0.5, 0.5]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import TASKS, Head, HeadKind, InputSpec
from inference.runtimes import EngineError

Array = NDArray[np.float32]
Shapes = Sequence[tuple[int, ...]]
Decode = Callable[[Sequence[Array]], Array]

MAX_CANDIDATES: Final = 1000
"""Boxes that compete with each other: those with the highest scores. It bounds the time of a frame."""
_EPSILON: Final = 1e-9


@dataclass(frozen=True)
class _Given:
    """What a detector's head knows besides the tensors."""

    options: Head
    labels: int
    spec: InputSpec


def head(options: Head, spec: InputSpec, labels: int, temperature: float = 1.0) -> Decode:
    """Return the function of a head: output tensors in the order of the kind → the model's answer.

    The function raises EngineError for numbers that are no answer.
    """
    if TASKS[options.kind] == "classification":
        return partial(_classifier, _CLASSIFIERS[options.kind], temperature)
    return partial(_detector, _DETECTORS[options.kind], _Given(options, labels, spec))


def identity(options: Head, temperature: float) -> bool:
    """Whether the output tensor is the answer already, so that nothing has to be computed for a frame."""
    return options.kind in {"softmax", "sigmoid"} and temperature == 1


def check_shapes(options: Head, shapes: Shapes, labels: int) -> None:
    """Raise EngineError unless outputs of these shapes, in the order of the kind, suit the head."""
    expected = _SHAPES[options.kind](labels)
    fits = len(shapes) == len(expected) and all(
        len(shape) == len(wanted)
        and all(size == want for size, want in zip(shape, wanted, strict=True) if want)
        for shape, wanted in zip(shapes, expected, strict=True)
    )
    if options.kind == "yolo" and len(shapes) == 1 and not fits:  # the same table with rows for columns
        fits = len(shapes[0]) == 3 and (shapes[0][0], shapes[0][2]) == (1, 4 + labels)
    if not fits:
        text = " and ".join(f"({', '.join(str(size or 'any') for size in wanted)})" for wanted in expected)
        have = " and ".join(map(str, shapes))
        raise EngineError(
            f"the model's output is {have}, its manifest and labels say {text}: head {options.kind}, "
            f"{labels} labels"
        )


#: Shapes of the outputs, in order; 0: any size. The batch has one picture.
_SHAPES: Final[Mapping[HeadKind, Callable[[int], tuple[tuple[int, ...], ...]]]] = {
    "softmax": lambda labels: ((1, labels),),
    "logits": lambda labels: ((1, labels),),
    "sigmoid": lambda labels: ((1, labels),),
    "ssd": lambda labels: ((1, 0, 4), (1, 0), (1, 0), (1,)),  # boxes, classes, scores, count
    "yolo": lambda labels: ((1, 4 + labels, 0),),
    "centers": lambda labels: ((1, 0, 0, labels), (1, 0, 0, 2), (1, 0, 0, 2)),  # heat map, offset, size
}


# -- classifiers ---------------------------------------------------------------------------------------------


def _classifier(
    scores: Callable[[Array, float], Array], temperature: float, outputs: Sequence[Array]
) -> Array:
    output = outputs[0].reshape(-1)
    if not np.isfinite(output).all():
        raise EngineError("the model's output is not finite")
    return scores(output, temperature)


def _softmax(logits: Array, temperature: float) -> Array:
    scaled = logits / np.float32(temperature)
    powers = np.exp(scaled - scaled.max())
    result: Array = powers / powers.sum()
    return result


def _calibrated(probabilities: Array, temperature: float) -> Array:
    """Probabilities that sum to 1: their logarithms are logits."""
    if temperature == 1:
        return probabilities
    return _softmax(np.log(np.maximum(probabilities, np.float32(_EPSILON))), temperature)


def _independent(probabilities: Array, temperature: float) -> Array:
    """One probability for each label, which do not sum to 1: the inverse of the sigmoid is the logit."""
    if temperature == 1:
        return probabilities
    inner = np.clip(probabilities, _EPSILON, 1 - 1e-7)
    result: Array = (1 / (1 + ((1 - inner) / inner) ** (1 / temperature))).astype(np.float32)
    return result


_CLASSIFIERS: Final[Mapping[HeadKind, Callable[[Array, float], Array]]] = {
    "softmax": _calibrated,
    "sigmoid": _independent,
    "logits": _softmax,
}


# -- detectors -----------------------------------------------------------------------------------------------


def _detector(
    decode: Callable[[Sequence[Array], _Given], Array], given: _Given, outputs: Sequence[Array]
) -> Array:
    found = decode(outputs, given)
    if len(found) and found[:, 0].max() >= given.labels:
        highest = int(found[:, 0].max())
        raise EngineError(f"the model answers class {highest}, and it has {given.labels} labels")
    return found


def bounded(classes: Array, scores: Array, boxes: Array, options: Head, limit: int) -> Array:
    """Return the (count, 6) of at most `limit` boxes with a score of at least the threshold.

    `boxes` (n, 4) are cut to the input; those that are not finite or have no area are left out. Raises
    EngineError if a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise EngineError("a score of the model is not finite")
    wanted = scores >= options.scoreThreshold
    wanted &= np.isfinite(boxes).all(axis=1) & np.isfinite(classes) & (classes >= 0)
    table = np.column_stack((classes[wanted], scores[wanted], np.clip(boxes[wanted], 0, 1)))
    table = table[(table[:, 4] > table[:, 2]) & (table[:, 5] > table[:, 3])]
    order = np.argsort(-table[:, 1], kind="stable")[:limit]
    result: Array = table[order].astype(np.float32, copy=False)
    return result


def _ssd(outputs: Sequence[Array], given: _Given) -> Array:
    """TFLite_Detection_PostProcess: boxes (top, left, bottom, right), classes, scores, and their count."""
    boxes, classes, scores, count = (output.reshape(-1) for output in outputs)
    size = min(len(classes), len(scores), len(boxes) // 4)
    if not np.isfinite(count[0]):
        raise EngineError("the number of detections is not finite")
    valid = max(0, min(size, int(count[0])))
    corners = boxes.reshape(-1, 4)[:valid, [1, 0, 3, 2]]
    options = given.options
    return bounded(np.rint(classes[:valid]), scores[:valid], corners, options, options.maxDetections)


def _yolo(outputs: Sequence[Array], given: _Given) -> Array:
    """[1, 4 + C, N]: for each of N candidates centre x, centre y, width, height, and C scores.

    [1, N, 4 + C] is read too. The boxes are shares of the input, or pixels if the head says so.
    """
    options, table = given.options, outputs[0][0]
    if table.shape[0] != 4 + given.labels:
        table = table.T
    side = np.array((given.spec.width, given.spec.height) if options.pixels else (1, 1), np.float32)
    centre, size = table[:2].T, table[2:4].T
    classes = table[4:].argmax(axis=0).astype(np.float32)
    scores = table[4:].max(axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        boxes = np.concatenate((centre - size / 2, centre + size / 2), axis=1) / np.tile(side, 2)
    found = bounded(classes, scores, boxes.astype(np.float32, copy=False), options, MAX_CANDIDATES)
    return suppressed(found, options)


def _centers(outputs: Sequence[Array], given: _Given) -> Array:
    """Heat map (h, w, C), offset (h, w, 2) and size (h, w, 2) of the boxes, x before y, in cells of the map.

    A peak is a cell that is the highest of its 3 × 3 neighbours; of neighbours with the same height, which an
    int8 map often has, only the first is one. A box's centre is its cell plus the offset.
    """
    options = given.options
    heat, offset, size = (output[0] for output in outputs)
    if not np.isfinite(heat).all():
        raise EngineError("a score of the model is not finite")
    height, width, _ = heat.shape
    edge = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    around = [edge[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    peak = (heat > np.maximum.reduce(around[:4])) & (heat >= np.maximum.reduce(around[5:]))
    peak &= heat >= options.scoreThreshold
    y, x, classes = np.nonzero(peak)
    if len(y) > MAX_CANDIDATES:  # a flat map is all peaks
        best = np.argsort(-heat[y, x, classes], kind="stable")[:MAX_CANDIDATES]
        y, x, classes = y[best], x[best], classes[best]
    cells = np.array((width, height), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        centre = (np.stack((x, y), axis=1).astype(np.float32) + offset[y, x]) / cells
        half = size[y, x] / cells / 2
        boxes = np.concatenate((centre - half, centre + half), axis=1)
    scores = heat[y, x, classes]
    return bounded(classes.astype(np.float32), scores, boxes, options, options.maxDetections)


_DETECTORS: Final[Mapping[HeadKind, Callable[[Sequence[Array], _Given], Array]]] = {
    "ssd": _ssd,
    "yolo": _yolo,
    "centers": _centers,
}


def suppressed(found: Array, options: Head) -> Array:
    """Leave out each box that overlaps a better one of its label by more than the IoU threshold."""
    kept: list[int] = []
    rest = np.arange(len(found))
    while len(rest) and len(kept) < options.maxDetections:
        first, rest = int(rest[0]), rest[1:]
        kept.append(first)
        same = found[rest, 0] == found[first, 0]
        rest = rest[~(same & (iou(found[first, 2:], found[rest, 2:]) > options.iouThreshold))]
    return found[kept]


def iou(box: Array, boxes: Array) -> Array:
    """Return the intersection over union of one box (left, top, right, bottom) with each of boxes, (n, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    result: Array = shared / (areas + (box[2:] - box[:2]).prod() - shared + _EPSILON)
    return result
