"""Which earlier result can be kept: the one of the same settings, code, versions and data. Trains nothing."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import asdict
from pathlib import Path
from typing import Final

import inference
from inference.runtimes import RUNTIMES
from twinship_training.data import Dataset
from twinship_training.report import results
from twinship_training.report.results import Metrics
from twinship_training.settings import TrainSettings

TENSORFLOWS: Final = ("tensorflow-cpu", "tensorflow")
#: Settings that decide nothing of what comes out.
NOT_ASKED: Final = ("out", "force", "resume")
#: What, besides this room, decides how a model comes out.
DEVICE_CODE: Final = (
    "artefact.py",
    "engine.py",
    "frames/preprocess.py",
    "model_section.py",
    "models/prove.py",
    "runtimes.py",
)


def kept(settings: TrainSettings, key: str) -> Metrics | None:
    """What lies in `settings.out`, if it is whole and of this recipe key, and unless `force` is set."""
    found = None if settings.force else results.previous(settings.out)
    return found if found and found.recipe_key == key else None


def same_data(found: Metrics | None, dataset: Dataset) -> bool:
    return found is not None and found.dataset.fingerprint == dataset.fingerprint


def was_digits(settings: TrainSettings, found: Metrics | None) -> bool:
    """MNIST could not be had for this very training before: no need to wait for the download again."""
    return settings.dataset == "auto" and found is not None and found.dataset.name == "digits"


def recipe_key(settings: TrainSettings) -> str:
    """Of everything but the data that decides what comes out: settings, code, versions."""
    asked = {name: str(value) for name, value in asdict(settings).items() if name not in NOT_ASKED}
    folder, device = Path(__file__).parent, Path(inference.__path__[0])
    sources = [*sorted(folder.rglob("*.py")), *(device / name for name in DEVICE_CODE)]
    digest = hashlib.sha256(f"{sorted(asked.items())} {sorted(versions().items())}\n".encode())
    for source in sources:
        digest.update(f"{source.name} {hashlib.sha256(source.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of what decides how a model comes out, where it is installed; imports none of it."""
    found = {}
    for name in (
        *TENSORFLOWS,
        "keras",
        "numpy",
        "pillow",
        *(distribution for _, distribution in RUNTIMES.values()),
    ):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
