"""The networks that find objects, how each is trained, and the tables of all networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twinship_training.networks import centers, mobilenet
from twinship_training.networks.architectures import ARCHITECTURES, Architecture, Recipe

LEAST_PRECISION: Final = 0.1  # mAP50 below which a detector has learnt nothing
DETECTOR: Final = "centers"

DETECTORS: Final = {
    DETECTOR: Architecture(
        about="MobileNetV2's first 13 blocks with ImageNet weights, maps of centres",
        build=centers.centers,
        recipes={
            "full": Recipe(epochs=28, batch=8, rate=0.001, augment=1.0, least=250),
            "quick": Recipe(epochs=4, batch=8, rate=0.001, augment=1.0, least=100),
        },
        accuracy={"full": {}, "quick": {}},
        loss=centers.loss,
        spec=mobilenet.spec,
        pretrained=True,
        side=320,
        max_side=640,
        max_drop=0.02,
    ),
    "centers-small": Architecture(
        about="depthwise-separable convolutions that learn from nothing, maps of centres",
        build=centers.small,
        recipes={
            "full": Recipe(epochs=30, batch=16, rate=0.003, augment=1.0, least=1_000),
            "quick": Recipe(epochs=6, batch=16, rate=0.004, augment=0.5, least=400),
        },
        accuracy={"full": {}, "quick": {}},
        loss=centers.loss,
        spec=mobilenet.spec,
        side=160,
        max_side=640,
        max_drop=0.03,
    ),
}
#: Task → its networks.
BY_TASK: Final[Mapping[str, Mapping[str, Architecture]]] = {"classify": ARCHITECTURES, "detect": DETECTORS}
NETWORKS: Final[Mapping[str, Architecture]] = {**ARCHITECTURES, **DETECTORS}
