"""Heads: what output tensors mean, and that hostile numbers are bounded."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.artefact import Head, HeadKind, InputSpec
from inference.heads import check_shapes, head, iou
from inference.runtimes import EngineError

SPEC = InputSpec(height=100, width=200, channels=3)
Array = NDArray[np.float32]


def decode(
    kind: HeadKind, *outputs: object, labels: int = 2, temperature: float = 1.0, **options: object
) -> Array:
    tensors = [np.array(each, np.float32) for each in outputs]
    given = Head.model_validate({"kind": kind, **options})
    return head(given, SPEC, labels, temperature)(tensors)


def test_logits_become_probabilities_and_the_temperature_divides_them() -> None:
    """The softmax of the logits; a higher temperature makes it flatter."""
    assert decode("logits", [[0.0, np.log(3)]]) == pytest.approx([0.25, 0.75])
    assert decode("logits", [[0.0, 2 * np.log(3)]], temperature=2) == pytest.approx([0.25, 0.75])
    assert decode("softmax", [[0.1, 0.9]], temperature=2) == pytest.approx([0.25, 0.75])
    assert decode("sigmoid", [[0.9, 0.9]], temperature=2) == pytest.approx([0.75, 0.75])
    assert decode("sigmoid", [[0.9, 0.9]]) == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("kind", ["softmax", "logits", "sigmoid"])
def test_a_score_that_is_not_finite_is_an_error(kind: HeadKind) -> None:
    """Such a model must be withdrawn."""
    with pytest.raises(EngineError, match="not finite"):
        decode(kind, [[np.nan, 1.0]])


def test_ssd_reads_count_order_and_threshold() -> None:
    """Boxes are top, left, bottom, right; only `count` of them are valid."""
    boxes = [[[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], [0, 0, 0.5, 0.5], [0, 0, 1, 1]]]
    found = decode("ssd", boxes, [[1, 0, 1, 0]], [[0.6, 0.2, 0.9, 0.99]], [3])
    assert found == pytest.approx(np.array([[1, 0.9, 0, 0, 0.5, 0.5], [1, 0.6, 0.2, 0.1, 0.4, 0.3]]))


def test_bad_boxes_are_left_out_and_the_rest_is_cut_to_the_input() -> None:
    """NaN, infinite, inside out and empty boxes are no detections."""
    boxes = [[[np.nan, 0, 1, 1], [0, -np.inf, 1, 1], [0.9, 0, 0.1, 1], [0, 0.5, 1, 0.5], [-3, 0.5, 9, 2]]]
    found = decode("ssd", boxes, [[0] * 5], [[0.9] * 5], [5])
    assert found[:, 2:].tolist() == [[0.5, 0, 1, 1]]


def test_a_count_or_a_score_that_is_not_finite_is_an_error() -> None:
    """The numbers of a broken model are not an empty picture."""
    for scores, count in (([[0.9]], [np.nan]), ([[np.inf]], [1])):
        with pytest.raises(EngineError, match="not finite"):
            decode("ssd", [[[0, 0, 1, 1]]], [[0]], scores, count)


@pytest.mark.parametrize("count", [-5, 10, 1e30])
def test_a_count_that_lies_stays_in_the_tensors(count: float) -> None:
    """A count below 0 is none, one above the number of boxes is all of them."""
    found = decode("ssd", [[[0, 0, 1, 1]] * 2], [[0, 1]], [[0.9, 0.8]], [count])
    assert len(found) == (0 if count < 0 else 2)


def test_a_class_without_a_label_is_an_error() -> None:
    """The labels do not belong to the model."""
    with pytest.raises(EngineError, match="class 7, and it has 2 labels"):
        decode("ssd", [[[0, 0, 1, 1]]], [[7]], [[0.9]], [1])


def reference_yolo(table: Array, score: float, overlap: float) -> list[tuple[int, float, list[float]]]:
    """Decode and suppress one candidate after another, as the definition says."""
    found = []
    for column in table.T:
        label = int(column[4:].argmax())
        x, y, w, h = column[:4]
        if column[4 + label] >= score:
            found.append((label, float(column[4 + label]), [x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    found.sort(key=lambda each: -each[1])
    kept: list[tuple[int, float, list[float]]] = []
    for one in found:
        if all(one[0] != other[0] or one_iou(one[2], other[2]) <= overlap for other in kept):
            kept.append(one)
    return kept


def one_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_yolo_equals_a_reference(pixels: bool, turned: bool) -> None:
    """Decoding and suppression of random candidates, in shares and in pixels, in both orders of the axes."""
    random = np.random.default_rng(3)
    table = random.uniform(0, 1, (4 + 3, 60)).astype(np.float32)
    table[:2], table[2:4] = 0.3 + 0.4 * table[:2], 0.1 + 0.3 * table[2:4]
    expected = reference_yolo(table, 0.5, 0.4)
    output = table * np.array([[200], [100], [200], [100], *[[1]] * 3], np.float32) if pixels else table
    found = decode(
        "yolo",
        [output.T if turned else output],
        labels=3,
        scoreThreshold=0.5,
        iouThreshold=0.4,
        pixels=pixels,
    )
    assert len(found) == len(expected) > 5
    for row, (label, score, box) in zip(found, expected, strict=True):
        assert (row[0], row[1]) == (label, pytest.approx(score))
        assert row[2:] == pytest.approx(box, abs=1e-5)


def test_a_hundred_thousand_detections_are_bounded() -> None:
    """No more than the manifest's maximum, whatever the model answers."""
    random = np.random.default_rng(1)
    table = random.uniform(0.4, 0.6, (6, 100_000))
    table[2:4] = 0.001
    assert len(decode("yolo", [table], scoreThreshold=0, maxDetections=300)) == 300
    boxes = np.tile([0, 0, 1, 1], (1, 100_000, 1))
    many = np.ones((1, 100_000))
    assert len(decode("ssd", boxes, many, many, [100_000])) == 100
    peaks = np.zeros((1, 100, 100, 2))
    peaks[:, ::2, ::2] = 0.5
    assert len(decode("centers", peaks, np.zeros((1, 100, 100, 2)), np.ones((1, 100, 100, 2)))) == 100


def test_neighbours_of_the_same_height_are_one_object() -> None:
    """An int8 map has 256 heights, so the cells around a centre are often equal."""
    heat = np.zeros((1, 10, 20, 2))
    heat[0, 4:6, 10:12, 1] = 0.5
    assert len(decode("centers", heat, np.zeros((1, 10, 20, 2)), np.ones((1, 10, 20, 2)))) == 1
    heat[0, 8, 10, 1] = 0.5
    assert len(decode("centers", heat, np.zeros((1, 10, 20, 2)), np.ones((1, 10, 20, 2)))) == 2


def test_centers_finds_peaks() -> None:
    """A peak is the highest of its 3 × 3 neighbours; offset and size are in cells, x before y."""
    heat, offset, size = np.zeros((1, 10, 20, 2)), np.zeros((1, 10, 20, 2)), np.zeros((1, 10, 20, 2))
    heat[0, 4, 10, 1], heat[0, 4, 11, 1], heat[0, 8, 2, 0] = 0.9, 0.8, 0.5
    offset[0, 4, 10], size[0, 4, 10], size[0, 8, 2] = (0.5, 0.25), (4, 2), (2, 2)
    found = decode("centers", heat, offset, size)
    assert found == pytest.approx(
        np.array([[1, 0.9, 8.5 / 20, 3.25 / 10, 12.5 / 20, 5.25 / 10], [0, 0.5, 1 / 20, 0.7, 3 / 20, 0.9]])
    )


def test_iou_is_that_of_the_definition() -> None:
    """Equal boxes 1, apart 0, a half of a box 0.5."""
    boxes = np.array([[0, 0, 1, 1], [2, 2, 3, 3], [0, 0, 0.5, 1]], np.float32)
    assert iou(boxes[0], boxes) == pytest.approx([1, 0, 0.5])


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("softmax", [(1, 3)]),
        ("softmax", [(1, 2), (1, 2)]),
        ("ssd", [(1, 9, 4), (1, 9), (1, 9)]),
        ("yolo", [(1, 7, 9)]),
        ("centers", [(1, 5, 5, 3), (1, 5, 5, 2), (1, 5, 5, 2)]),
    ],
)
def test_shapes_that_the_head_does_not_have_are_refused(
    kind: HeadKind, shapes: list[tuple[int, ...]]
) -> None:
    """The error names head, shapes and labels."""
    with pytest.raises(EngineError, match=f"head {kind}, 2 labels"):
        check_shapes(Head(kind=kind), shapes, 2)
