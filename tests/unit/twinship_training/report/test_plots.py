"""The card's figures and pictures: calibration, the worst mistakes, and that they can be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.twinship_training.pictures import pictures
from twinship_training.report.calibration import BINS, calibration
from twinship_training.report.plots import SHOWN, draw, worst
from twinship_training.report.results import PLOTTED, History


def test_a_calibrated_model_has_no_error() -> None:
    """Right in nine of ten cases when nine tenths sure."""
    found = calibration(np.full(10, 0.9, np.float32), np.arange(10) < 9)
    assert found.expected_error == pytest.approx(0, abs=1e-6)
    assert (found.bins[9].count, found.bins[9].accuracy) == (10, 0.9)


def test_an_overconfident_model_is_seen() -> None:
    """Sure and wrong half of the time: the error is what confidence promised too much, weighed by answers."""
    confidence = np.array([1.0, 1.0, 0.25, 0.25], np.float32)
    found = calibration(confidence, np.array([True, False, False, False]))
    assert found.expected_error == pytest.approx((2 * 0.5 + 2 * 0.25) / 4)
    assert [each.count for each in found.bins] == [0, 0, 2, 0, 0, 0, 0, 0, 0, 2]


def test_the_surest_mistakes_come_first() -> None:
    """Right answers are none, however unsure; of the wrong ones the surest are shown, no more than fit."""
    count = SHOWN + 10
    asked, answer = pictures([0] * count), np.ones(count, np.int64)
    answer[:5] = 0
    confidence = np.linspace(0.2, 0.9, count).astype(np.float32)
    found = worst(asked.images, asked.labels, answer, confidence)
    assert len(found.truth) == SHOWN
    assert found.images[:, 0, 0, 0].tolist() == list(range(count - 1, count - 1 - SHOWN, -1))


@pytest.mark.parametrize(("classes", "channels", "mistakes"), [(2, 1, 0), (3, 3, 1), (10, 1, 40), (40, 3, 7)])
def test_every_model_can_be_drawn(tmp_path: Path, classes: int, channels: int, mistakes: int) -> None:
    """Two classes or forty, grey or colour, without a mistake or with many, names of any kind."""
    draw_from = np.random.default_rng(0)
    images = draw_from.integers(0, 256, (50, 30, 20, channels), dtype=np.uint8)
    truth = np.arange(50) % classes
    answer = np.where(np.arange(50) < mistakes, (truth + 1) % classes, truth)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (truth, answer), 1)
    confidence = np.full(50, 0.7, np.float32)
    draw(
        tmp_path / "plots",
        [f"$cost of a very long label_{each}$ 数" for each in range(classes)],
        History(loss=(0.3,), validation=(1.0,), kept=1),
        confusion.tolist(),
        calibration(confidence, truth == answer),
        worst(images, truth, answer, confidence),
    )
    assert {path.name for path in (tmp_path / "plots").iterdir()} == set(PLOTTED)
    for path in (tmp_path / "plots").iterdir():
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).min() < 200, path  # something was drawn


def test_bins_cover_everything() -> None:
    """Confidence 0 and 1, and a softmax that int8 rounded past 1, are counted."""
    found = calibration(np.array([0.0, 1.0, 1.001], np.float32), np.array([True, True, True]))
    assert sum(each.count for each in found.bins) == 3
    assert len(found.bins) == BINS
