"""Calibration, the worst mistakes, and the plots of the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.metrics_model import History
from tests.unit.twinship_training.pictures import pictures
from twinship_training.report.calibration import BINS, calibration
from twinship_training.report.plots import SHOWN, draw, worst
from twinship_training.report.results import PLOT_FILES


def test_a_calibrated_model_has_no_error() -> None:
    """Nine of ten right with confidence 0.9."""
    found = calibration(np.full(10, 0.9, np.float32), np.arange(10) < 9)
    assert found.expected_error == pytest.approx(0, abs=1e-6)
    assert (found.bins[9].count, found.bins[9].accuracy) == (10, 0.9)


def test_an_overconfident_model_has_an_error() -> None:
    """The error is the mean difference of confidence and accuracy, weighted by predictions."""
    confidence = np.array([1.0, 1.0, 0.25, 0.25], np.float32)
    found = calibration(confidence, np.array([True, False, False, False]))
    assert found.expected_error == pytest.approx((2 * 0.5 + 2 * 0.25) / 4)
    assert [each.count for each in found.bins] == [0, 0, 2, 0, 0, 0, 0, 0, 0, 2]


def test_mistakes_with_the_highest_confidence_come_first() -> None:
    """Only wrong predictions are shown, at most SHOWN of them."""
    count = SHOWN + 10
    shown, predicted = pictures([0] * count), np.ones(count, np.int64)
    predicted[:5] = 0
    confidence = np.linspace(0.2, 0.9, count).astype(np.float32)
    found = worst(shown.images, shown.labels, predicted, confidence)
    assert len(found.truth) == SHOWN
    assert found.images[:, 0, 0, 0].tolist() == list(range(count - 1, count - 1 - SHOWN, -1))


@pytest.mark.parametrize(("classes", "channels", "mistakes"), [(2, 1, 0), (3, 3, 1), (10, 1, 40), (40, 3, 7)])
def test_every_model_can_be_drawn(tmp_path: Path, classes: int, channels: int, mistakes: int) -> None:
    """Two classes or forty, grey or colour, no mistake or many, labels with special characters."""
    draw_from = np.random.default_rng(0)
    images = draw_from.integers(0, 256, (50, 30, 20, channels), dtype=np.uint8)
    truth = np.arange(50) % classes
    predicted = np.where(np.arange(50) < mistakes, (truth + 1) % classes, truth)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    confidence = np.full(50, 0.7, np.float32)
    draw(
        tmp_path / "plots",
        [f"$cost of a very long label_{each}$ 数" for each in range(classes)],
        History(loss=(0.3,), validation=(1.0,), kept=1),
        confusion.tolist(),
        calibration(confidence, truth == predicted),
        worst(images, truth, predicted, confidence),
    )
    assert {path.name for path in (tmp_path / "plots").iterdir()} == set(PLOT_FILES)
    for path in (tmp_path / "plots").iterdir():
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).min() < 200, path  # something was drawn


def test_bins_count_every_prediction() -> None:
    """Confidence 0, 1, and a softmax that int8 rounded above 1."""
    found = calibration(np.array([0.0, 1.0, 1.001], np.float32), np.array([True, True, True]))
    assert sum(each.count for each in found.bins) == 3
    assert len(found.bins) == BINS
