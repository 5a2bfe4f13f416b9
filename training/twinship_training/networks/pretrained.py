"""Finds the ImageNet weights that a network begins with: --weights, Keras's cache, a download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inference.dataset.choice import keras_cache
from inference.dataset.pictures import Shape
from twinship_training.data.download import MOBILENET, MOBILENET_FILE
from twinship_training.networks import mobilenet
from twinship_training.networks.mobilenet import Weights, WeightsError

#: No int8 model of the network is smaller, so --arch auto with a lower --max-size does not train it.
SMALLEST_BYTES: Final = 2_000_000

Download = Callable[[str, Path], str | None]


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Weights to begin with, and the networks that --arch auto leaves out, with the reason."""

    weights: Weights = field(default_factory=list)
    left_out: Mapping[str, str] = field(default_factory=dict)


def find(named: Path | None, environment: Mapping[str, str], download: Download) -> Weights:
    """The weights of MobileNetV2. Raises WeightsError."""
    if named is not None:
        return mobilenet.load(named)
    cached = keras_cache(environment).parent / "models" / MOBILENET_FILE
    if not cached.exists() and (failure := download(MOBILENET, cached.parent)):
        raise WeightsError(
            f"no ImageNet weights: {cached} does not exist and the download failed ({failure}); "
            "use --weights FILE with Keras's weights of MobileNetV2"
        )
    return mobilenet.load(cached)


def for_auto(shape: Shape, max_bytes: int | None, find_weights: Callable[[], Weights]) -> Pretrained:
    """For --arch auto: weights for pictures in colour, or why the network is left out."""
    if shape[2] == 1:
        return Pretrained(left_out={MOBILENET: "the pictures are grey"})
    if max_bytes is not None and max_bytes < SMALLEST_BYTES:
        return Pretrained(left_out={MOBILENET: f"it has more than {max_bytes:,} bytes"})
    try:
        return Pretrained(find_weights())
    except WeightsError as error:
        return Pretrained(left_out={MOBILENET: str(error)})
