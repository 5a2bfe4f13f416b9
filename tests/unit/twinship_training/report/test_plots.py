"""Calibration, the worst mistakes, and the plots of the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.dataset.pictures import Pictures
from inference.evaluate import Predictions
from inference.metrics_model import ClassCount, Cost, History
from tests.unit.twinship_training.pictures import pictures
from tests.unit.twinship_training.report.figures import metrics
from twinship_training.report.calibration import BINS, calibration
from twinship_training.report.plots import SHOWN, draw, mistakes_figure, worst
from twinship_training.report.results import PLOT_FILES

COST = Cost(p50_ms=0.1, memory_bytes=1_000)


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
    found = worst(shown.labels, Predictions(predicted, confidence, COST, "int8"))
    assert found.tolist() == list(range(count - 1, count - 1 - SHOWN, -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_each_mistake_is_a_picture_with_a_title(channels: int) -> None:
    """The title has the true label, the predicted one and the confidence; other places stay empty."""
    images = np.zeros((9, 30, 20, channels), np.uint8)
    predicted = np.array([1] * 7 + [0, 0])
    found = Predictions(predicted, np.full(9, 0.7, np.float32), COST, "int8")
    figure = mistakes_figure(["cat", "dog"], Pictures(images, np.zeros(9, np.int64)), found)
    assert [len(axes.images) for axes in figure.axes] == [1] * 7 + [0] * 3
    assert {axes.get_title() for axes in figure.axes} == {"cat →\ndog (70%)", ""}


@pytest.mark.parametrize(("count", "channels", "mistakes"), [(2, 1, 0), (3, 3, 1), (10, 1, 40), (40, 3, 7)])
def test_every_model_can_be_drawn(tmp_path: Path, count: int, channels: int, mistakes: int) -> None:
    """Two classes or forty, grey or colour, no mistake or many, labels with special characters."""
    draw_from = np.random.default_rng(0)
    images = draw_from.integers(0, 256, (50, 30, 20, channels), dtype=np.uint8)
    truth = np.arange(50) % count
    predicted = np.where(np.arange(50) < mistakes, (truth + 1) % count, truth)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    confidence = np.full(50, 0.7, np.float32)
    report = metrics().dataset.report
    classes = tuple(
        ClassCount(label=f"$cost of a very long label_{each}$ 数", train=9, validation=1, test=1)
        for each in range(count)
    )
    drawn = metrics(
        dataset=metrics().dataset.model_copy(
            update={"report": report.model_copy(update={"classes": classes})}
        ),
        history=History(loss=(0.3,), validation=(1.0,), kept=1),
        confusion=confusion.tolist(),
        calibration=calibration(confidence, truth == predicted),
    )
    found = Predictions(predicted, confidence, COST, "int8")
    draw(tmp_path / "plots", drawn, Pictures(images, truth), found)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == set(PLOT_FILES)
    for path in (tmp_path / "plots").iterdir():
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).min() < 200, path  # something was drawn


def test_bins_count_every_prediction() -> None:
    """Confidence 0, 1, and a softmax that int8 rounded above 1."""
    found = calibration(np.array([0.0, 1.0, 1.001], np.float32), np.array([True, True, True]))
    assert sum(each.count for each in found.bins) == 3
    assert len(found.bins) == BINS
