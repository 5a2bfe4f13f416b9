"""The pictures of one epoch: in a new order, each distorted differently.

All randomness comes from the generator that the caller passes; Keras's layers take their seeds from it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.dataset.pictures import Pictures
from twinship_training.networks.architectures import Recipe
from twinship_training.tf_import import tensorflow

BATCH: Final = 100  # photographs that are distorted at once


def epoch_pictures(train: Pictures, recipe: Recipe, random: np.random.Generator) -> Pictures:
    """`recipe.pictures` training pictures in a new order; repeated when there are fewer than that."""
    count = recipe.pictures or len(train)
    rounds = math.ceil(count / len(train))
    order = np.concatenate([random.permutation(len(train)) for _ in range(rounds)])
    return train.take(order[:count])


def distorted(images: NDArray[np.uint8], recipe: Recipe, random: np.random.Generator) -> NDArray[np.uint8]:
    """Each picture changed a little, differently, as the recipe says."""
    change = photographed if recipe.photographs else augmented
    return change(images, recipe.augment, random)


def photographed(
    images: NDArray[np.uint8], strength: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Photographs: flipped, a part of them enlarged, brightness, contrast and saturation changed."""
    if not strength:
        return images
    _, keras = tensorflow()
    layers, colour = keras.layers, {"value_range": (0, 255)}
    changes = [
        partial(layers.RandomFlip, "horizontal"),
        partial(layers.RandomZoom, (-0.25 * strength, 0.0), fill_mode="reflect"),  # below 0: nearer
        partial(layers.RandomTranslation, 0.1 * strength, 0.1 * strength, fill_mode="reflect"),
        partial(layers.RandomBrightness, 0.15 * strength, **colour),
        partial(layers.RandomContrast, 0.25 * strength, **colour),
    ]
    if images.shape[3] == 3:
        changes.append(
            partial(layers.RandomSaturation, (0.5 - 0.15 * strength, 0.5 + 0.15 * strength), **colour)
        )
    steps = [change(seed=int(random.integers(2**31))) for change in changes]
    batches = []
    for begin in range(0, len(images), BATCH):
        values = images[begin : begin + BATCH].astype(np.float32)
        for step in steps:
            values = step(values, training=True)
        batches.append(np.rint(np.clip(values, 0, 255)).astype(np.uint8))
    return np.concatenate(batches)


def augmented(images: NDArray[np.uint8], strength: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Each picture rotated, scaled, sheared and moved a little, differently; strength 0: unchanged."""
    if not strength:
        return images
    tf, _ = tensorflow()
    _, height, width, _ = images.shape
    moved: NDArray[np.uint8] = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms(len(images), strength, random, (height, width)),
        output_shape=[height, width],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    ).numpy()
    return moved


def transforms(
    count: int, strength: float, random: np.random.Generator, size: tuple[int, int]
) -> NDArray[np.float32]:
    """(count, 8): for each picture the matrix a b c / d e f / 0 0 from output pixels to input pixels.

    About the centre of `size` (height, width): rotated by at most ±10°, scaled and sheared by ±10 %, moved by
    ±2 pixels of 28; all of these times `strength`.
    """
    height, width = size

    def within(limit: float) -> NDArray[np.float64]:
        return random.uniform(-limit * strength, limit * strength, count)

    angle, wide, high, shear = within(math.radians(10)), 1 + within(0.1), 1 + within(0.1), within(0.1)
    a, b = np.cos(angle) * wide, shear - np.sin(angle) * wide
    d, e = np.sin(angle) * high, np.cos(angle) * high
    x, y = (width - 1) / 2, (height - 1) / 2
    c = x * (1 - a) - y * b + within(width / 14)
    f = y * (1 - e) - x * d + within(height / 14)
    zero = np.zeros(count)
    rows: NDArray[np.float32] = np.stack([a, b, c, d, e, f, zero, zero], axis=1).astype(np.float32)
    return rows
