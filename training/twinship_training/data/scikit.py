"""What scikit-learn ships, which needs neither a network nor a file: 1,797 digits, two photographs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.dataset.archives import DIGIT_LABELS
from inference.dataset.pictures import FileReport, Origin, Pictures, SourceData, stratified

SIDE: Final = 28
BOX: Final = 20
TEST: Final = 500  # as many as the frames that a training leaves for the camera


def digits(why: str) -> SourceData:
    """8×8 pixels in 17 greys, scaled to 28×28 as in MNIST; 500 pictures are the test. `why` they are used."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]

    small, labels = load_digits(return_X_y=True)
    grey = np.rint(small.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.stack([_scaled(picture) for picture in grey])[..., np.newaxis]
    train, test = stratified(Pictures(images, labels.astype(np.int64)), TEST)
    origin = Origin("digits", "scikit-learn's digits, 8×8 scaled to 28×28", why, DIGIT_LABELS)
    return SourceData(origin, FileReport((8, 8), (8, 8)), train, test)


def photographs() -> list[NDArray[np.uint8]]:
    """The two photographs of a temple and a flower, uint8 (427, 640, 3)."""
    from sklearn.datasets import load_sample_images  # type: ignore[import-untyped,unused-ignore]

    pictures: list[NDArray[np.uint8]] = load_sample_images().images
    return pictures


def _scaled(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A box of 20×20 in the middle of 28×28, as in MNIST, so that a model of one can read the other."""
    box = Image.fromarray(picture).resize((BOX, BOX), Image.Resampling.BILINEAR)
    return np.pad(np.asarray(box, dtype=np.uint8), (SIDE - BOX) // 2)
