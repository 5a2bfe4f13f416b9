"""Pictures with boxes, each distorted differently, and their boxes with them.

A picture is mirrored, enlarged or reduced, moved, and changes its brightness, contrast and tint. All
randomness comes from the generator that the caller passes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.dataset.pictures import Pictures
from twinship_training.networks.architectures import Recipe
from twinship_training.tf_import import tensorflow

BATCH: Final = 50  # pictures at once
NEARER, FARTHER = 0.3, 0.2  # of the side that a picture shows, at most, at strength 1
MOVED: Final = 0.1  # of the side, for a picture that shows all of itself
BRIGHTNESS, CONTRAST, TINT = 0.12, 0.2, 0.06
VISIBLE: Final = 0.4  # of a box's area: with less the object is not in the picture
GREY: Final = 114.0


def distorted(pictures: Pictures, recipe: Recipe, random: np.random.Generator) -> Pictures:
    """Every picture changed as the recipe says; strength 0: the pictures themselves."""
    if not recipe.augment:
        return pictures
    images, boxes = [], []
    for begin in range(0, len(pictures), BATCH):
        part = slice(begin, begin + BATCH)
        rows = transforms(pictures.images[part].shape, recipe.augment, random)
        images.append(_coloured(_moved(pictures.images[part], rows), recipe.augment, random))
        boxes.append(moved_boxes(pictures.labels[part], rows, pictures.shape[:2]))
    return Pictures(np.concatenate(images), np.concatenate(boxes))


def transforms(shape: tuple[int, ...], strength: float, random: np.random.Generator) -> NDArray[np.float32]:
    """(count, 8), from output pixels to input pixels as in `augment.transforms`: mirrored, scaled, moved."""
    count, height, width = shape[:3]
    scale = 1 + random.uniform(-NEARER * strength, FARTHER * strength, count)
    mirror = np.where(random.random(count) < 0.5, -1.0, 1.0)
    sides = np.array((width, height))
    free = np.maximum(1 - scale, MOVED * strength)[:, None] / 2 * sides
    middle = (sides - 1) / 2
    x, y = (middle + random.uniform(-1, 1, (count, 2)) * free).T
    zero = np.zeros(count)
    a, e = mirror * scale, scale
    rows = (a, zero, x - a * middle[0], zero, e, y - e * middle[1], zero, zero)
    stacked: NDArray[np.float32] = np.stack(rows, axis=1).astype(np.float32)
    return stacked


def moved_boxes(
    labels: NDArray[np.float32], rows: NDArray[np.float32], size: tuple[int, int]
) -> NDArray[np.float32]:
    """The boxes (count, most, 5) after these transforms: cut to the picture, none mostly outside."""
    height, width = size
    sides = np.array((width, height), np.float32)
    factor, shift = rows[:, None, [0, 4]], rows[:, None, [2, 5]]
    # A pixel's number is that of its left edge; transforms count from the middle of the first pixel.
    corners = [
        ((labels[..., place : place + 2] * sides - 0.5 - shift) / factor + 0.5) / sides for place in (1, 3)
    ]
    low, high = np.minimum(*corners), np.maximum(*corners)
    whole = (high - low).prod(axis=-1)
    low, high = low.clip(0, 1), high.clip(0, 1)
    seen = (high - low).prod(axis=-1) >= VISIBLE * whole
    moved = np.concatenate((labels[..., :1], low, high), axis=-1)
    return np.where((seen & (labels[..., 0] >= 0))[..., None], moved, np.float32(-1)).astype(np.float32)


def _moved(images: NDArray[np.uint8], rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    tf, _ = tensorflow()
    moved: NDArray[np.uint8] = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=rows,
        output_shape=images.shape[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=GREY,
    ).numpy()
    return moved


def _coloured(images: NDArray[np.uint8], strength: float, random: np.random.Generator) -> NDArray[np.uint8]:
    count, channels = len(images), images.shape[3]

    def within(limit: float, wide: int = 1) -> NDArray[np.float32]:
        values = random.uniform(-limit * strength, limit * strength, (count, 1, 1, wide))
        return values.astype(np.float32)

    gain = 1 + within(CONTRAST) + (within(TINT, channels) if channels == 3 else 0)
    values = (images.astype(np.float32) - 128) * gain + 128 * (1 + within(BRIGHTNESS))
    coloured: NDArray[np.uint8] = np.rint(values.clip(0, 255)).astype(np.uint8)
    return coloured
