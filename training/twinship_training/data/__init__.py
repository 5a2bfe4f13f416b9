"""The data set of a training: pictures from `inference.dataset`, without duplicates, in three splits."""

from __future__ import annotations

from collections.abc import Mapping

from inference.dataset import choice as sources
from inference.dataset.pictures import Shaping
from twinship_training.data.download import download as download_keras
from twinship_training.data.scikit import digits
from twinship_training.data.split import MAX_SIDE, Dataset, at_most, split_source

DEFAULT_SHAPING = at_most(MAX_SIDE)


def find(
    choice: str,
    environment: Mapping[str, str],
    download: sources.Download = download_keras,
    shaping: Shaping = DEFAULT_SHAPING,
) -> Dataset:
    """The data set for the text of `--dataset`. Raises DataError."""
    return split_source(sources.find(choice, environment, shaping, download=download, digits=digits))
