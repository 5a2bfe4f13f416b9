"""The two models of the demo, trained if they are not there yet."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twinship.demo import DemoFailed

VERSIONS = ("1.0.0", "1.1.0")  # of one recipe with two seeds: different weights for the same task
MINIMUM_ACCURACY = {
    "mnist": 0.95,
    "digits": 0.90,
}  # data set → lowest accepted share of right answers to held-out frames

WITH_BOXES = ("voc:", "coco:")  # data sets that detectors are trained on


@dataclass(frozen=True)
class DemoData:
    """The input of a run: two artefacts, pictures to send, and the accuracy to expect."""

    models: tuple[Path, Path]
    versions: tuple[str, str]
    pictures: Path
    dataset: str  # for people: which data, from where and why
    minimum_accuracy: float | None  # None: the pictures have no labels


def require_training() -> None:
    """Raise DemoFailed unless the distribution twinship-training is installed."""
    if importlib.util.find_spec("twinship_training") is None:
        raise DemoFailed(
            "training needs the package twinship-training, which is not installed; "
            "cure: pip install --find-links dist 'twinship[train]' (make wheels fills dist/)"
        )


def ensure(
    folder: Path, dataset: str, own_pictures: Path | None, progress: Callable[[str, float], None]
) -> DemoData:
    """Train both models or find them in `folder`; the pictures are the user's or held-out test frames.

    Raises DemoFailed and the errors of training.
    """
    if own_pictures is not None and not any(path.is_file() for path in own_pictures.rglob("*")):
        raise DemoFailed(
            f"{own_pictures} is not a folder with pictures; cure: a folder with PNG or JPEG files"
        )
    require_training()
    from twinship_training.train import TrainSettings, train

    network, task = ("centers-small", "detect") if dataset.startswith(WITH_BOXES) else ("micro", "classify")
    results = [
        train(
            TrainSettings(
                network, dataset, "quick", seed=seed, version=version, out=folder / version, task=task
            ),
            lambda text, share, version=version: progress(f"{version}: {text}", share),  # type: ignore[misc]
        )
        for seed, version in enumerate(VERSIONS, start=1)
    ]
    facts = results[0].metrics.dataset
    described = f"{facts.name}: {facts.source}, because {facts.why}"
    return DemoData(
        models=(results[0].artefact, results[1].artefact),
        versions=(VERSIONS[0], VERSIONS[1]),
        pictures=own_pictures or results[0].frames,
        dataset=f"pictures of {own_pictures}; models from {described}" if own_pictures else described,
        minimum_accuracy=None if own_pictures else MINIMUM_ACCURACY.get(facts.name),
    )
