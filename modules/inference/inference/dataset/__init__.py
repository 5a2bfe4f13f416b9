"""Labelled pictures from files: folders, .npz files, MNIST and Fashion-MNIST as Keras stores them.

`twinship verify` evaluates an artefact on test pictures and works without twinship-training. It must use the
test pictures that the training held out, and this code chooses them where a folder has no `test/`. So one
reader serves both; it needs only numpy and Pillow.
"""

from inference.dataset.choice import CHOICES, find, keras_cache
from inference.dataset.pictures import (
    DataError,
    FileReport,
    Origin,
    Pictures,
    Shape,
    Shaping,
    SourceData,
    exactly,
    input_spec,
    stratified,
)

__all__ = [
    "CHOICES",
    "DataError",
    "FileReport",
    "Origin",
    "Pictures",
    "Shape",
    "Shaping",
    "SourceData",
    "exactly",
    "find",
    "input_spec",
    "keras_cache",
    "stratified",
]
