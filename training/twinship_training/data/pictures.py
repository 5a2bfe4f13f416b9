"""The nouns of learning: pictures with their labels, and the data set that they make. Reads no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import InputSpec
from inference.frames.preprocess import prepare
from twinship_training import TrainingError
from twinship_training.data.report import Report

Shape = tuple[int, int, int]
"""Of one picture: height, width, channels (1 or 3)."""

MIN_SIDE: Final = 28  # below it the networks' convolutions have nothing left to look at
MAX_SIDE: Final = 96  # above it a training on two cores takes hours


class DataError(TrainingError):
    """The data set that was asked for cannot be had, or is not what it should be."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """`images` uint8 (count, H, W, C), prepared as on a device; `labels` int64 (count,), places in names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def shape(self) -> Shape:
        """Of one picture."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Pictures:
        """Those at these places, in this order."""
        return Pictures(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Origin:
    """Where pictures came from and what they show."""

    name: str  # "mnist", "fashion_mnist", "digits", "folder" or "npz": which targets hold
    source: str  # in words
    why: str  # and why from there
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """What to learn from (`train`), to choose by (`validation`) and to be judged by, once (`test`)."""

    name: str
    source: str
    why: str
    labels: tuple[str, ...]
    train: Pictures
    validation: Pictures
    test: Pictures
    fingerprint: str  # sha256 over every picture and label before they were split
    report: Report


Shaping = Callable[[Sequence[Shape]], Shape]
"""From the shapes that were found to the one that all pictures are prepared to."""


def at_most(side: int) -> Shaping:
    """The median shape, made smaller until it fits into `side` × `side`; in colour when any picture is."""

    def shape(found: Sequence[Shape]) -> Shape:
        height, width = (float(np.median([each[axis] for each in found])) for axis in (0, 1))
        shrink = min(1.0, side / max(height, width))
        grow = max(1.0, MIN_SIDE / min(height, width))
        return (
            min(side, max(MIN_SIDE, round(height * shrink * grow))),
            min(side, max(MIN_SIDE, round(width * shrink * grow))),
            max(each[2] for each in found),
        )

    return shape


USUAL: Final = at_most(MAX_SIDE)


def exactly(spec: InputSpec) -> Shaping:
    """The shape that a model takes, whatever was found."""
    return lambda found: (spec.height, spec.width, spec.channels)


def input_spec(shape: Shape) -> InputSpec:
    """What the manifest declares of pictures of this shape."""
    return InputSpec(height=shape[0], width=shape[1], channels=1 if shape[2] == 1 else 3)


def prepared(images: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """(count, h, w, c) of any one size to `shape`, by the device's own rule."""
    if images.shape[1:] == shape:
        return images
    spec = input_spec(shape)
    return np.stack([prepare(image, spec) for image in images])


def spread(pictures: Pictures, count: int) -> Pictures:
    """At most `count` of these, evenly spaced: MNIST's second half is harder than its first."""
    places = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(np.int64)
    return pictures.take(places)
