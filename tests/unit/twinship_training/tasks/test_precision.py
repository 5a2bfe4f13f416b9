"""mAP50: what counts as found, and what a wrong or a missing detection costs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twinship_training.tasks.precision import precision

TRUTH = np.array(
    [
        [[0, 0.1, 0.1, 0.3, 0.3], [1, 0.5, 0.5, 0.9, 0.9]],
        [[0, 0.2, 0.2, 0.6, 0.6], [-1, -1, -1, -1, -1]],
    ],
    np.float32,
)
RIGHT = [np.array([(0, 0.9, 0.1, 0.1, 0.3, 0.3), (1, 0.8, 0.5, 0.5, 0.9, 0.9)], np.float32)]
RIGHT += [np.array([(0, 0.7, 0.2, 0.2, 0.6, 0.6)], np.float32)]
NOTHING = np.zeros((0, 6), np.float32)


def test_perfect_detections_have_all_of_it() -> None:
    """Each box found, none invented: 1 for each label."""
    found = precision(RIGHT, TRUTH, 2, (240, 320))
    assert found.of_label == pytest.approx((1, 1))
    assert found.curves.shape == (2, 101)


def test_a_missed_box_and_a_wrong_label_cost() -> None:
    """Half of a label's boxes found: a little over a half, as 51 of the 101 recalls are reached."""
    found = precision([RIGHT[0], NOTHING], TRUTH, 2, (240, 320))
    assert found.of_label == pytest.approx((51 / 101, 1))
    swapped = [each.copy() for each in RIGHT]
    swapped[1][0, 0] = 1
    assert precision(swapped, TRUTH, 2, (240, 320)).of_label[0] == pytest.approx(51 / 101)


@pytest.mark.parametrize(("right", "share"), [(0.41, 1.0), (0.39, 51 / 101)])
def test_half_of_the_area_counts(right: float, share: float) -> None:
    """A box with an IoU just above 0.5 is found, one just below it is not."""
    moved = [RIGHT[0], RIGHT[1].copy()]
    moved[1][0, 4] = right
    assert precision(moved, TRUTH, 2, (240, 320)).of_label[0] == pytest.approx(share, abs=1e-6)


def test_a_label_that_the_pictures_do_not_show_does_not_count() -> None:
    """Its average precision is not a number, and the mean leaves it out."""
    found = precision(RIGHT, TRUTH, 3, (240, 320))
    assert math.isnan(found.of_label[2])
    assert found.mean == pytest.approx(1)


def test_no_detection_at_all_is_nothing() -> None:
    """0 for each label that the pictures show."""
    found = precision([NOTHING, NOTHING], TRUTH, 3, (240, 320))
    assert found.of_label[:2] == (0, 0)
    assert math.isnan(found.of_label[2])
    assert found.mean == 0
