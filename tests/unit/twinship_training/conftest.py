"""One real training for all tests that look at its results; it takes some seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from twinship_training.data.scikit import digits
from twinship_training.data.split import Dataset, split_source
from twinship_training.train import TrainResult, TrainSettings, train

Reports = list[tuple[str, float]]


@pytest.fixture(scope="session")
def offline() -> Dataset:
    """scikit-learn's digits."""
    return split_source(digits("a test uses them"))


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """The shortest training with a useful result: one quick epoch of `micro`."""
    out = tmp_path_factory.mktemp("training") / "model"
    return TrainSettings(
        architecture="micro", dataset="digits", profile="quick", epochs=1, min_accuracy=0.8, out=out
    )


@pytest.fixture(scope="session")
def reports() -> Reports:
    """The calls of the progress callback during `trained`."""
    return []


@pytest.fixture(scope="session")
def record(reports: Reports) -> Callable[[str, float], None]:
    return lambda text, share: reports.append((text, share))


@pytest.fixture(scope="session")
def trained(settings: TrainSettings, offline: Dataset, record: Callable[[str, float], None]) -> TrainResult:
    """The results of that training on disk."""
    return train(settings, record, offline)


@pytest.fixture
def no_progress() -> Callable[[str, float], None]:
    return lambda text, share: None


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A path for results in a folder that has nothing else."""
    return tmp_path / "results" / "model"
