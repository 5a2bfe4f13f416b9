"""Small data sets for the tests of training: bars in MNIST's layout, and coloured shapes in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inference.dataset.archives import keras_set
from inference.dataset.pictures import Pictures
from twinship_training.data.split import Dataset, split_source

SIDE = 28
LABELS = tuple("0123456789")
SHAPES = ("disc", "frame", "stripe")  # sorted, as the classes of a folder


def bars(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(count, 28, 28) and (count,): a bright column whose position is the label, on noise."""
    draw = np.random.default_rng(seed)
    labels = (np.arange(count) % len(LABELS)).astype(np.uint8)
    images = draw.integers(0, 40, (count, SIDE, SIDE), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 + 2 * label : 5 + 2 * label] = 255
    return images, labels


def arrays(train: int = 200, test: int = 50) -> dict[str, NDArray[Any]]:
    """The arrays of an mnist.npz."""
    (x_train, y_train), (x_test, y_test) = bars(train), bars(test, seed=1)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def write_npz(path: Path, content: dict[str, NDArray[Any]] | None = None) -> Path:
    """A file in the layout of Keras's mnist.npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named: dict[str, Any] = arrays() if content is None else content
    np.savez(path, **named)
    return path


def mnist(path: Path) -> Dataset:
    """The data set in a file with MNIST's layout."""
    return split_source(keras_set("mnist", [path], "bars", "a test uses them"))


def dataset(folder: Path) -> Dataset:
    """200 bars for training and validation, 50 for the test."""
    return mnist(write_npz(folder / "bars.npz"))


def pictures(labels: list[int]) -> Pictures:
    """Pictures of which only the labels matter; each is filled with its index."""
    indices = np.arange(len(labels), dtype=np.uint8)
    images = np.broadcast_to(indices[:, None, None, None], (len(labels), SIDE, SIDE, 1)).copy()
    return Pictures(images, np.array(labels, np.int64))


def coloured(label: str, draw: np.random.Generator, width: int, height: int) -> Image.Image:
    """A shape in the colour of its class, slightly different each time, on dark noise."""
    noise = draw.integers(0, 60, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    pencil, (bright, faint) = ImageDraw.Draw(picture), draw.integers((180, 0), (256, 70))
    left, top = draw.integers(2, 6, 2).tolist()
    box = (left, top, width - left - 1, height - top - 1)
    if label == "disc":
        pencil.ellipse(box, fill=(bright, faint, faint))
    elif label == "frame":
        pencil.rectangle(box, outline=(faint, bright, faint), width=4)
    else:
        middle = height // 2 + left - 4
        pencil.rectangle((0, middle - 4, width, middle + 4), fill=(faint, faint, bright))
    return picture


def colour_folder(path: Path, of_each: int = 30, width: int = 32, height: int = 32, seed: int = 0) -> Path:
    """One sub-folder for each of SHAPES, with `of_each` PNG files."""
    draw = np.random.default_rng(seed)
    for label in SHAPES:
        (path / label).mkdir(parents=True)
        for number in range(of_each):
            coloured(label, draw, width, height).save(path / label / f"{number:03}.png")
    return path
