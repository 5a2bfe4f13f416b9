"""Pictures with their labels, and how they are brought to one shape. Reads no file.

All pictures are prepared by `inference.frames.preprocess`, as on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import InputSpec
from inference.frames.preprocess import prepare

Shape = tuple[int, int, int]
"""Of one picture: height, width, channels (1 or 3)."""

Shaping = Callable[[Sequence[Shape]], Shape]
"""From the shapes of the pictures in the files to the one shape that all are prepared to."""

#: Fixed, whatever the seed of a training: models of different seeds are compared on the same pictures.
SPLIT_SEED: Final = 20_260_101


class DataError(Exception):
    """A data set is not available or not valid; the message is one line with the cure."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """`images` uint8 (count, H, W, C), prepared as on a device; `labels` int64 (count,), indices of labels.

    For detection `labels` are boxes, float32 (count, most, 5): index of the label (-1: no box), left, top,
    right and bottom in shares of the picture.

    >>> two = Pictures(np.zeros((2, 28, 28, 1), np.uint8), np.array([7, 3]))
    >>> len(two), two.shape, two.take(np.array([1])).labels.tolist()
    (2, (28, 28, 1), [3])
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any]

    @property
    def shape(self) -> Shape:
        """The shape of one picture."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Pictures:
        """The pictures at these indices, in this order."""
        return Pictures(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Origin:
    """Where the pictures come from, and the names of their classes."""

    name: str  # "mnist", "fashion_mnist", "digits", "folder" or "npz"; the accuracy targets depend on it
    source: str  # for people: which file or folder
    why: str  # and why that one was taken
    labels: tuple[str, ...]


@dataclass(frozen=True)
class FileReport:
    """What the reader noticed: picture sizes as (height, width), and the files that it could not read."""

    smallest: tuple[int, int]
    largest: tuple[int, int]
    unreadable: tuple[str, ...] = ()  # name and reason


@dataclass(frozen=True, eq=False)
class SourceData:
    """The pictures of one source. `validation` is None unless the source has its own."""

    origin: Origin
    files: FileReport
    train: Pictures
    test: Pictures
    validation: Pictures | None = None


def exactly(spec: InputSpec) -> Shaping:
    """The shape that a model takes, whatever the files hold.

    >>> exactly(InputSpec(height=28, width=28, channels=1))([(480, 640, 3)])
    (28, 28, 1)
    """
    return lambda found: (spec.height, spec.width, spec.channels)


def input_spec(shape: Shape) -> InputSpec:
    """What a manifest declares for pictures of this shape."""
    return InputSpec(height=shape[0], width=shape[1], channels=1 if shape[2] == 1 else 3)


def prepared(images: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """(count, h, w, c) of any one size, resized to `shape`."""
    if images.shape[1:] == shape:
        return images
    spec = input_spec(shape)
    return np.stack([prepare(image, spec) for image in images])


def stratified(pictures: Pictures, count: int) -> tuple[Pictures, Pictures]:
    """Split off `count` pictures: the rest, and those. Every label keeps its share; the order is kept."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(pictures))
    by_label = order[np.argsort(pictures.labels[order], kind="stable")]
    held_out = by_label[((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)]
    return pictures.take(np.setdiff1d(order, held_out)), pictures.take(np.sort(held_out))
