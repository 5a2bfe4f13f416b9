"""The network `centers`: its loss, its three outputs as int8, and boxes that move with their pictures."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.frame.boxes import Box
from inference.artefact import Head
from inference.dataset.pictures import Pictures
from inference.heads import head
from inference.runtimes import interpreter
from tests.unit.twinship_training.boxes import LABELS, drawn
from twinship_training.convert import convert
from twinship_training.data.boxes import table
from twinship_training.fit import float_outputs, scaled
from twinship_training.networks import centers
from twinship_training.networks.augment_boxes import distorted, moved_boxes, transforms
from twinship_training.networks.detectors import DETECTORS
from twinship_training.networks.mobilenet import spec

SIDE = 64


def shapes(count: int) -> Pictures:
    """Drawn pictures with their boxes."""
    draw = np.random.default_rng(3)
    made = [drawn(draw, SIDE) for _ in range(count)]
    truth = [
        tuple(Box(label, *(side / SIDE for side in sides)) for label, sides in boxes) for _, boxes in made
    ]
    return Pictures(np.stack([np.asarray(picture) for picture, _ in made]), table(truth, LABELS, 4))


def perfect(labels: NDArray[np.float32], side: int = SIDE // 4) -> NDArray[np.float32]:
    """The maps from which `inference.heads` decodes exactly these boxes."""
    maps = np.zeros((len(labels), side, side, len(LABELS) + 4), np.float32)
    for picture, rows in zip(maps, labels, strict=True):
        for label, left, top, right, bottom in rows[rows[:, 0] >= 0]:
            x, y = (left + right) / 2 * side, (top + bottom) / 2 * side
            cell = picture[int(y), int(x)]
            cell[int(label)] = 1
            cell[-4:] = x % 1, y % 1, (right - left) * side, (bottom - top) * side
    return maps


def test_the_loss_is_lowest_for_the_maps_that_decode_to_the_truth() -> None:
    """Perfect maps cost nearly nothing; a missed, an invented, a moved and a resized box each cost more."""
    labels = shapes(4).labels
    maps = perfect(labels)
    best = float(np.mean(centers.loss(labels, maps)))
    assert best < 0.01
    missed, invented, moved, resized = (maps.copy() for _ in range(4))
    missed[maps[..., 0] == 1, 0] = 0
    invented[:, 1, 1, 0] = 0.9
    moved[..., -4] *= 0.5
    resized[..., -1] *= 2
    for worse in (missed, invented, moved, resized):
        assert float(np.mean(centers.loss(labels, worse))) > best + 0.05


def test_the_maps_decode_to_the_boxes() -> None:
    """Loss and head of the device mean the same maps."""
    labels = shapes(3).labels
    decode = head(Head(kind="centers"), spec((SIDE, SIDE, 3)), len(LABELS))
    for picture, rows in zip(perfect(labels), labels, strict=True):
        parts = np.split(picture[np.newaxis], (len(LABELS), len(LABELS) + 2), axis=3)
        found = decode(parts)
        wanted = rows[rows[:, 0] >= 0]
        assert np.allclose(sorted(found[:, [0, 2, 3, 4, 5]].tolist()), sorted(wanted.tolist()), atol=1e-5)


@pytest.mark.long
def test_three_outputs_keep_their_order_as_int8() -> None:
    """Heat, offset and size come in the order of the head, though all have two channels here."""
    pictures = shapes(8)
    model = centers.small((SIDE, SIDE, 3), len(LABELS))
    size = model.get_layer(centers.SIZE)
    size.set_weights([size.get_weights()[0], np.array((7.0, 9.0), np.float32)])  # far from heat and offset
    parted = centers.parted(model)
    tflite = convert(parted, "int8", pictures.images, spec(pictures.shape))
    loaded = interpreter("litert", tflite, 1)
    loaded.allocate_tensors()
    sinks = loaded.get_output_details()
    means = []
    source = loaded.get_input_details()[0]
    scale, zero = source["quantization"]
    values = scaled(pictures.images[:1], spec(pictures.shape)) / scale + zero
    loaded.set_tensor(source["index"], np.rint(values).clip(-128, 127).astype(np.int8))
    loaded.invoke()
    for sink in sinks:
        scale, zero = sink["quantization"]
        means.append(float((loaded.get_tensor(sink["index"]).astype(np.float32) - zero).mean() * scale))
    whole = float_outputs(centers.joined(parted), pictures.take(np.array([0])), spec(pictures.shape))
    wanted = [float(part.mean()) for part in np.split(whole, (2, 4), axis=3)]
    assert means == pytest.approx(wanted, abs=0.3)


def test_boxes_move_with_their_pictures() -> None:
    """After a distortion each box still surrounds its object."""
    pictures = shapes(30)
    recipe = DETECTORS["centers-small"].recipes["full"]
    moved = distorted(pictures, recipe, np.random.default_rng(0))
    checked = 0
    for image, rows in zip(moved.images, moved.labels, strict=True):
        for label, *box in rows[rows[:, 0] >= 0].tolist():
            left, top, right, bottom = (round(side * SIDE) for side in box)
            inside = image[top + 2 : bottom - 2, left + 2 : right - 2].astype(int)
            if inside.size and min(left, top, SIDE - right, SIDE - bottom) > 0:
                reddish = (inside[..., 0] > inside[..., 2] + 40).mean()
                bluish = (inside[..., 2] > inside[..., 0] + 40).mean()
                assert (reddish if LABELS[int(label)] == "disc" else bluish) > 0.6
                checked += 1
    assert checked > 15


def test_a_box_that_leaves_its_picture_is_dropped() -> None:
    """A box is cut to the picture; with less than two fifths of its area inside it is no object any more."""
    labels = np.array([[[0, 0.4, 0.4, 0.6, 0.6]]] * 3, np.float32)
    rows = np.tile(np.array((1, 0, 0, 0, 1, 0, 0, 0), np.float32), (3, 1))
    rows[1, 2], rows[2, 2] = 0.5 * SIDE, 0.55 * SIDE  # to the left by half of the picture and more
    moved = moved_boxes(labels, rows, (SIDE, SIDE))
    assert np.allclose(moved[0], labels[0])
    assert np.allclose(moved[1, 0], (0, 0, 0.4, 0.1, 0.6), atol=1e-6)
    assert moved[2, 0, 0] == -1


def test_a_transform_stays_inside_its_limits() -> None:
    """A nearer picture shows no border, a farther one shows all of itself."""
    rows = transforms((500, 60, 80, 3), 1.0, np.random.default_rng(0)).astype(np.float64)
    low = rows[:, 4] * -0.5 + rows[:, 5]
    high = rows[:, 4] * 59.5 + rows[:, 5]
    nearer = rows[:, 4] < 0.9
    assert (low[nearer] >= -0.5 - 1e-3).all()
    assert (high[nearer] <= 59.5 + 1e-3).all()
    assert rows[:, 4].min() >= 0.7
    assert rows[:, 4].max() <= 1.2


def test_centers_is_as_small_as_it_says() -> None:
    """About 690,000 parameters at 320×240, one map a quarter of the side."""
    model = DETECTORS["centers"].build((240, 320, 3), 3)
    assert model.output.shape[1:] == (60, 80, 7)
    assert model.count_params() == pytest.approx(690_000, rel=0.01)
    assert not any("BN" in each.path or "batch_norm" in each.path for each in model.trainable_variables)
