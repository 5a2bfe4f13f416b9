"""scikit-learn's digits: 1,797 pictures that need no network and no file."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinship_training.data.archives import DIGIT_LABELS
from twinship_training.data.pictures import Dataset, Origin, Pictures
from twinship_training.data.split import Found, assemble, stratified

SIDE: Final = 28
BOX: Final = 20
TEST: Final = 500  # as many as the frames that a model is demonstrated with


def digits(reason: str) -> Dataset:
    """8×8 in 17 greys, scaled to 28×28 as MNIST's are; 500 are held out."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]

    small, labels = load_digits(return_X_y=True)
    grey = np.rint(small.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.stack([_scaled(picture) for picture in grey])[..., np.newaxis]
    rest, test = stratified(Pictures(images, labels.astype(np.int64)), TEST)
    origin = Origin("digits", "scikit-learn's digits, 8×8 scaled to 28×28", reason, DIGIT_LABELS)
    return assemble(origin, Found((8, 8), (8, 8)), rest, test)


def _scaled(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As MNIST places them: a box of 20×20 in the middle of 28×28, so that a model knows both."""
    box = Image.fromarray(picture).resize((BOX, BOX), Image.Resampling.BILINEAR)
    return np.pad(np.asarray(box, dtype=np.uint8), (SIDE - BOX) // 2)
