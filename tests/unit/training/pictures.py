"""Small data sets for the tests of training: bars that a network can tell apart, in MNIST's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import LABELS, SIDE, Dataset, Pictures, mnist


def bars(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(count, 28, 28) and (count,): a bright column whose place is the label, on noise."""
    draw = np.random.default_rng(seed)
    labels = (np.arange(count) % len(LABELS)).astype(np.uint8)
    images = draw.integers(0, 40, (count, SIDE, SIDE), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 + 2 * label : 5 + 2 * label] = 255
    return images, labels


def arrays(train: int = 200, test: int = 50) -> dict[str, NDArray[Any]]:
    """What mnist.npz holds."""
    (x_train, y_train), (x_test, y_test) = bars(train), bars(test, seed=1)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def write_npz(path: Path, content: dict[str, NDArray[Any]] | None = None) -> Path:
    """A file in the layout of Keras's mnist.npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(arrays() if content is None else content))
    return path


def dataset(folder: Path) -> Dataset:
    """200 bars to learn and 50 to be judged by."""
    return mnist(write_npz(folder / "bars.npz"), "bars", "a test asked for them")


def pictures(labels: list[int]) -> Pictures:
    """Pictures of which only the labels matter; each is filled with its place."""
    places = np.arange(len(labels), dtype=np.uint8)
    images = np.broadcast_to(places[:, None, None, None], (len(labels), SIDE, SIDE, 1)).copy()
    return Pictures(images, np.array(labels, np.int64))
