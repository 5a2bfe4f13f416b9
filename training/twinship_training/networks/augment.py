"""The pictures of one epoch: in a new order, each distorted differently.

All randomness comes from the generator that the caller passes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from inference.dataset.pictures import Pictures
from twinship_training.networks.architectures import Recipe
from twinship_training.tf_import import tensorflow


def epoch_pictures(train: Pictures, recipe: Recipe, random: np.random.Generator) -> Pictures:
    """`recipe.pictures` training pictures in a new order; repeated when there are fewer than that."""
    count = recipe.pictures or len(train)
    rounds = math.ceil(count / len(train))
    order = np.concatenate([random.permutation(len(train)) for _ in range(rounds)])
    return train.take(order[:count])


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
