"""The data sets to learn from: found, read, prepared as on a device, split, reported. Trains nothing."""

from twinship_training.data.choice import find
from twinship_training.data.pictures import DataError, Dataset, Pictures, Shape, input_spec, spread
from twinship_training.data.scikit import digits

__all__ = ["DataError", "Dataset", "Pictures", "Shape", "digits", "find", "input_spec", "spread"]
