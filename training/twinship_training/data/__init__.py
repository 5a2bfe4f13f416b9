"""The data set of a training: pictures from `inference.dataset`, without duplicates, in three splits."""

from __future__ import annotations

from collections.abc import Mapping

from inference import dataset
from inference.dataset import DataError, Pictures, Shape, Shaping, input_spec
from inference.dataset.choice import Download
from twinship_training.data.download import download as download_keras
from twinship_training.data.scikit import digits
from twinship_training.data.split import MAX_SIDE, MIN_SIDE, Dataset, at_most, split_source, spread

__all__ = [
    "MAX_SIDE",
    "MIN_SIDE",
    "DataError",
    "Dataset",
    "Pictures",
    "Shape",
    "at_most",
    "digits",
    "download_keras",
    "find",
    "input_spec",
    "split_source",
    "spread",
]

DEFAULT_SHAPING = at_most(MAX_SIDE)


def find(
    choice: str,
    environment: Mapping[str, str],
    download: Download = download_keras,
    shaping: Shaping = DEFAULT_SHAPING,
) -> Dataset:
    """The data set for the text of `--dataset`. Raises DataError."""
    return split_source(dataset.find(choice, environment, shaping, download=download, digits=digits))
