"""Drift is found soon, and a false alarm is as rare as it is stated."""

import numpy as np
import pytest
from numpy.typing import NDArray

from camera_sim.sources.settings import DIGITS, SceneDials
from inference.artefact import Histogram, Reference
from inference.drift.detector import Charts
from tests.unit.inference.drift.scene_model import (
    DEVICE,
    measured,
    pictures,
    scene_reference,
    scores,
    validation,
)

STATED = 2_000  # frames between false alarms in the runs without drift
RUNS, HORIZON = 200, 10_000
DEFAULT = 100_000  # frames between false alarms in the runs with drift


def run_lengths(charts: Charts, seed: int = 1) -> NDArray[np.int64]:
    """Frames to the first alarm of RUNS runs that draw from the validation pictures; HORIZON at most."""
    draw = np.random.default_rng(seed)
    gains = charts.gains_of(np.array([charts.rows(found) for found in validation().tolist()]))
    sums = np.zeros((RUNS, len(charts.thresholds)))
    lengths, running = np.full(RUNS, HORIZON), np.ones(RUNS, bool)
    for frame in range(1, HORIZON + 1):
        sums = charts.advance(sums, gains[draw.integers(0, len(gains), RUNS)])
        alarmed = running & (sums >= 1).any(axis=1)
        lengths[alarmed] = frame
        running &= ~alarmed
    return lengths


def lower_bound(lengths: NDArray[np.int64]) -> float:
    """The lower 95 % bound of the mean."""
    return float(lengths.mean() - 1.645 * lengths.std(ddof=1) / np.sqrt(len(lengths)))


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Over 200 runs without drift the lower 95 % bound of the mean run length is at least the stated one."""
    lengths = run_lengths(Charts(scene_reference(), DIGITS, STATED))
    assert lower_bound(lengths) >= STATED


def test_lower_thresholds_alarm_too_often() -> None:
    """The counter-proof: with thresholds for a hundredth of the frames the same runs are too short."""
    lengths = run_lengths(Charts(scene_reference(), DIGITS, STATED / 100))
    assert lower_bound(lengths) < STATED


def test_each_chart_is_a_likelihood_ratio() -> None:
    """On the reference's own pictures the mean of each ratio is 1: the bound of false alarms rests on it."""
    charts = Charts(scene_reference(), DIGITS, STATED)
    gains = charts.gains_of(np.array([charts.rows(found) for found in validation().tolist()]))
    assert np.exp(gains * charts.thresholds).mean(axis=0) == pytest.approx(1, abs=1e-3)


def frames_until_found(dials: SceneDials, most: int) -> tuple[int, str]:
    """Frames of a disturbed scene until the first alarm, and the measure; `most` + 1 if there is none."""
    charts = Charts(scene_reference(), DIGITS, DEFAULT)
    sums = np.zeros(len(charts.thresholds))
    for number, found in enumerate(measured(pictures(most, DEVICE, dials)[0]).tolist(), start=1):
        sums = charts.advance(sums, charts.gains(found))
        if sums.max() >= 1:
            return number, charts.charts[int(sums.argmax())].measure
    return most + 1, "none"


#: A dial, turned so far, is found within so many frames.
DIALS = {
    "noise": (SceneDials(noise=40), 60),
    "blur": (SceneDials(blur=1.0), 20),
    "rotation": (SceneDials(rotation=45), 60),
    "brightness": (SceneDials(brightness=30), 20),
    "brightness drift": (SceneDials(brightness_drift=100), 200),
    "freeze": (SceneDials(freeze=1.0), 20),
    "black": (SceneDials(black=0.3), 50),
    "class mix": (SceneDials(mix={"1": 1, "7": 1}), 40),
}


@pytest.mark.parametrize("name", DIALS)
def test_each_dial_of_the_scene_is_found(name: str) -> None:
    """Turned by a stated amount, within a stated number of frames, with 100,000 between false alarms."""
    dials, most = DIALS[name]
    frames, _ = frames_until_found(dials, most)
    assert frames <= most


def test_a_scene_without_drift_is_not_found() -> None:
    """The counter-proof: 2,000 new frames of the undisturbed scene raise no alarm."""
    assert frames_until_found(SceneDials(), 2_000) == (2_001, "none")


def test_the_small_classifier_is_useful() -> None:
    """Drift of its answers would mean nothing otherwise."""
    images, labels = pictures(500, DEVICE)
    assert (scores(images).argmax(axis=1) == labels).mean() > 0.9


def test_charts_name_measure_and_direction() -> None:
    """Two for each measure, one for each label."""
    charts = Charts(scene_reference(), DIGITS, STATED)
    assert len(charts.charts) == 2 * 5 + 10
    named = [(each.measure, each.direction) for each in charts.charts]
    assert ("brightness", "lower") in named
    assert ("class_mix", "more of 7") in named


def test_more_frames_between_false_alarms_need_higher_thresholds() -> None:
    """Ten times as many: ln 10 more, for each chart."""
    few, many = (Charts(scene_reference(), DIGITS, frames).thresholds for frames in (STATED, 10 * STATED))
    assert many - few == pytest.approx(np.log(10))


def test_a_reference_of_a_later_version_is_read() -> None:
    """A measure of an unknown name is ignored, and one that is missing has no chart."""
    histogram = Histogram(edges=(0.5,), shares=(0.5, 0.5))
    later = Reference(frames=100, measures={"brightness": histogram, "hue": histogram}, classes=(1.0,))
    charts = Charts(later, ("a",), STATED)
    assert [each.measure for each in charts.charts] == ["brightness", "brightness"]
    assert charts.gains([0, 0, 0, 0.9, 0, 0]).shape == (2,)
