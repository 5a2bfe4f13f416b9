"""The two models that the demo ships: trained when not there yet, from the best data that can be had."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twinship.demo import DemoFailed

VERSIONS = ("1.0.0", "1.1.0")  # of one recipe with two seeds: other weights, the same task
MINIMUM_ACCURACY = {"mnist": 0.95, "digits": 0.90}  # of the answers to held-out frames


@dataclass(frozen=True)
class DemoData:
    """What a run needs: two artefacts, pictures to send, and what may be expected of the answers."""

    models: tuple[Path, Path]
    versions: tuple[str, str]
    pictures: Path
    dataset: str  # which data, from where and why, in words
    minimum_accuracy: float | None  # None: nobody said what is on the pictures


def require_training() -> None:
    """Raises DemoFailed, in one line, unless the distribution twinship-training is installed."""
    if importlib.util.find_spec("twinship_training") is None:
        raise DemoFailed(
            "training needs the package twinship-training, which is not installed; "
            "cure: pip install --find-links dist 'twinship[train]' (make wheels fills dist/)"
        )


def ensure(
    folder: Path, dataset: str, own_pictures: Path | None, progress: Callable[[str, float], None]
) -> DemoData:
    """Both models, trained now or found in `folder`, and the pictures: one's own or held-out test frames.

    Raises DemoFailed, and what training raises: one line, the thing and the cure.
    """
    if own_pictures is not None and not any(path.is_file() for path in own_pictures.rglob("*")):
        raise DemoFailed(f"{own_pictures} is no folder with pictures: name one that holds PNG or JPEG files")
    require_training()
    from twinship_training.train import TrainSettings, train

    results = [
        train(
            TrainSettings("micro", dataset, "quick", seed=seed, version=version, out=folder / version),
            lambda text, share, version=version: progress(f"{version}: {text}", share),  # type: ignore[misc]
        )
        for seed, version in enumerate(VERSIONS, start=1)
    ]
    facts = results[0].metrics.dataset
    said = f"{facts.name}: {facts.source}, because {facts.why}"
    return DemoData(
        models=(results[0].artefact, results[1].artefact),
        versions=(VERSIONS[0], VERSIONS[1]),
        pictures=own_pictures or results[0].frames,
        dataset=f"pictures of {own_pictures}; models from {said}" if own_pictures else said,
        minimum_accuracy=None if own_pictures else MINIMUM_ACCURACY.get(facts.name),
    )
