"""One real training for all tests that look at its results; it takes some seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from twinship_training.data import Dataset, digits
from twinship_training.train import TrainResult, TrainSettings, train

Told = list[tuple[str, float]]


@pytest.fixture(scope="session")
def offline() -> Dataset:
    """scikit-learn's digits."""
    return digits("a test asked for them")


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """The smallest training that learns something: one quick epoch of `micro`."""
    out = tmp_path_factory.mktemp("training") / "model"
    return TrainSettings(
        architecture="micro", dataset="digits", profile="quick", epochs=1, min_accuracy=0.8, out=out
    )


@pytest.fixture(scope="session")
def told() -> Told:
    """What the progress callback was told during `trained`."""
    return []


@pytest.fixture(scope="session")
def record(told: Told) -> Callable[[str, float], None]:
    return lambda text, share: told.append((text, share))


@pytest.fixture(scope="session")
def trained(settings: TrainSettings, offline: Dataset, record: Callable[[str, float], None]) -> TrainResult:
    """The results of that training, as they lie on disk."""
    return train(settings, record, offline)


@pytest.fixture
def untold() -> Callable[[str, float], None]:
    return lambda text, share: None


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A place for results whose folder holds nothing else."""
    return tmp_path / "results" / "model"
