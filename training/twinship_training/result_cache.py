"""Reuse an earlier result: the one with the same settings, code, versions and data."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Final

import inference
from inference.metrics_model import Metrics, read_results
from inference.runtimes import RUNTIMES, installed
from twinship_training.data.split import Dataset
from twinship_training.settings import TrainSettings

TENSORFLOWS: Final = ("tensorflow-cpu", "tensorflow")
#: Settings that do not change the result.
NOT_IN_KEY: Final = ("out", "force", "resume")
#: Files of `inference` that, besides this package, decide the result.
DEVICE_CODE: Final = (
    "*.py",
    "dataset/*.py",
    "drift/measures.py",
    "drift/reference.py",
    "frames/preprocess.py",
    "models/prove.py",
)


def cached(settings: TrainSettings, key: str) -> Metrics | None:
    """The complete result in `settings.out` with this recipe key; None with `force`."""
    found = None if settings.force else read_results(settings.out)
    return found if found and found.recipe_key == key else None


def same_data(found: Metrics | None, dataset: Dataset) -> bool:
    return found is not None and found.dataset.fingerprint == dataset.fingerprint


def fell_back_to_digits(settings: TrainSettings, found: Metrics | None) -> bool:
    """The same training did not get MNIST before, so a new download is not worth the wait."""
    return settings.dataset == "auto" and found is not None and found.dataset.name == "digits"


def recipe_key(settings: TrainSettings) -> str:
    """The digest of all that decides the result but the data: settings, code, versions."""
    values = {name: str(value) for name, value in asdict(settings).items() if name not in NOT_IN_KEY}
    if settings.weights is not None and settings.weights.is_file():
        values["weights"] = hashlib.sha256(settings.weights.read_bytes()).hexdigest()
    folder, device = Path(__file__).parent, Path(inference.__path__[0])
    sources = [*folder.rglob("*.py"), *(path for pattern in DEVICE_CODE for path in device.glob(pattern))]
    digest = hashlib.sha256(f"{sorted(values.items())} {sorted(versions().items())}\n".encode())
    for source in sorted(sources):
        digest.update(f"{source.name} {hashlib.sha256(source.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Distribution → version, of those that decide the result and are installed; imports none of them."""
    runtimes = (distribution for _, distribution in RUNTIMES.values())
    return installed(*TENSORFLOWS, "keras", "numpy", "pillow", *runtimes)
