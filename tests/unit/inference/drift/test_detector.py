"""Drift is found soon, and a false alarm is as rare as it is stated."""

from collections.abc import Iterable
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from camera_sim.sources.settings import DIGITS, SceneDials
from inference.artefact import Histogram, Reference, Task
from inference.drift.detector import Charts
from tests.unit.inference.drift import scene_detector, scene_model
from tests.unit.inference.drift.scene_model import DEVICE

STATED = 2_000  # frames between false alarms in the runs without drift
RUNS, HORIZON = 200, 10_000
DEFAULT = 100_000  # frames between false alarms in the runs with drift
MODELS: dict[Task, ModuleType] = {"classification": scene_model, "detection": scene_detector}


def charts_of(task: Task, frames: float) -> Charts:
    """The charts of the small model for this task."""
    return Charts(task, MODELS[task].scene_reference(), DIGITS, frames)


def validation_gains(task: Task, charts: Charts) -> NDArray[np.float64]:
    """What each validation picture adds to each chart, (pictures, charts)."""
    return charts.gains_of(np.array([charts.rows(found) for found in MODELS[task].validation().tolist()]))


def run_lengths(task: Task, frames: float, seed: int = 1) -> NDArray[np.int64]:
    """Frames to the first alarm of RUNS runs that draw from the validation pictures; HORIZON at most."""
    draw = np.random.default_rng(seed)
    charts = charts_of(task, frames)
    gains = validation_gains(task, charts)
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


@pytest.mark.parametrize("task", MODELS)
def test_false_alarms_are_as_rare_as_stated(task: Task) -> None:
    """Over 200 runs without drift the lower 95 % bound of the mean run length is at least the stated one."""
    assert lower_bound(run_lengths(task, STATED)) >= STATED


@pytest.mark.parametrize("task", MODELS)
def test_lower_thresholds_alarm_too_often(task: Task) -> None:
    """The counter-proof: with thresholds for a hundredth of the frames the same runs are too short."""
    assert lower_bound(run_lengths(task, STATED / 100)) < STATED


@pytest.mark.parametrize("task", MODELS)
def test_each_chart_is_a_likelihood_ratio(task: Task) -> None:
    """On the reference's own pictures the mean of each ratio is 1: the bound of false alarms rests on it.

    Of a class that validation never saw it is a little less.
    """
    charts = charts_of(task, STATED)
    means = np.exp(validation_gains(task, charts) * charts.thresholds).mean(axis=0)
    assert means == pytest.approx(1, abs=2e-3)
    assert means.max() <= 1 + 1e-3


def until_found(charts: Charts, frames: Iterable[list[float]]) -> tuple[int, str]:
    """Frames until the first alarm, and the measure and direction; all and "none" if there is no alarm."""
    sums, number = np.zeros(len(charts.thresholds)), 0
    for number, found in enumerate(frames, start=1):
        sums = charts.advance(sums, charts.gains(found))
        if sums.max() >= 1:
            chart = charts.charts[int(sums.argmax())]
            return number, f"{chart.measure} {chart.direction}"
    return number, "none"


#: A dial, turned so far, is found within so many frames.
DIALS = {
    "noise": (SceneDials(noise=40), 60),
    "blur": (SceneDials(blur=1.0), 30),
    "rotation": (SceneDials(rotation=45), 60),
    "brightness": (SceneDials(brightness=30), 20),
    "brightness drift": (SceneDials(brightness_drift=100), 200),
    "freeze": (SceneDials(freeze=1.0), 20),
    "black": (SceneDials(black=0.3), 50),
    "class mix": (SceneDials(mix={"1": 1, "7": 1}), 40),
}


@pytest.mark.parametrize("task", MODELS)
@pytest.mark.parametrize("name", DIALS)
def test_each_dial_of_the_scene_is_found(name: str, task: Task) -> None:
    """Turned by a stated amount, within a stated number of frames, with 100,000 between false alarms."""
    dials, most = DIALS[name]
    _, found = until_found(charts_of(task, DEFAULT), MODELS[task].shown(most, dials))
    assert found != "none"


@pytest.mark.parametrize("task", MODELS)
def test_a_scene_without_drift_is_not_found(task: Task) -> None:
    """The counter-proof: 2,000 new frames of the undisturbed scene raise no alarm."""
    frames = MODELS[task].shown(2_000, SceneDials())
    assert until_found(charts_of(task, DEFAULT), frames) == (2_000, "none")


def found_in(images: scene_model.Pixels, answers: scene_detector.Answers) -> tuple[int, str]:
    """As `until_found`, for these pictures and a detector's answers to them."""
    measures = scene_detector.measured(images, answers)
    return until_found(charts_of("detection", DEFAULT), measures.tolist())


def test_a_detector_that_finds_nothing_any_more_is_found() -> None:
    """The pictures are as before: the answers alone say it, within 20 frames."""
    images = scene_detector.pictures(20, DEVICE)
    _, found = found_in(images, [scene_detector.NOTHING] * len(images))
    assert found in {"confidence lower", "count lower", "class_mix more of nothing found"}


def test_a_detector_that_finds_one_thing_only_is_found() -> None:
    """Of each picture the strongest detection is left: `count`, within 40 frames."""
    images = scene_detector.pictures(40, DEVICE)
    assert found_in(images, [each[:1] for each in scene_detector.answers(images)])[1] == "count lower"


def test_darker_pictures_of_a_detector_are_found() -> None:
    """The answers are as before: the pictures alone say it, within 60 frames."""
    images = scene_detector.pictures(60, DEVICE)
    dark = images // np.uint8(2)
    assert found_in(dark, scene_detector.answers(images))[1] in {"brightness lower", "sharpness lower"}


def test_the_small_models_are_useful() -> None:
    """Drift of their answers would mean nothing otherwise."""
    images, labels = scene_model.pictures(500, DEVICE)
    assert (scene_model.scores(images).argmax(axis=1) == labels).mean() > 0.9
    counts = [len(each) for each in scene_detector.answers(scene_detector.pictures(200, DEVICE))]
    assert 1.7 < np.mean(counts) <= 2  # of one to three digits


def test_charts_name_measure_and_direction() -> None:
    """Two for each measure, one for each label, and one for a detector that finds nothing."""
    expected: dict[Task, tuple[int, int]] = {"classification": (5, 10), "detection": (4, 11)}
    for task, (measures, classes) in expected.items():
        charts = charts_of(task, STATED)
        assert len(charts.charts) == 2 * measures + classes
        named = [(each.measure, each.direction) for each in charts.charts]
        assert ("brightness", "lower") in named
        assert ("class_mix", "more of 7") in named
        assert named[-1] == ("class_mix", "more of nothing found" if task == "detection" else "more of 9")


def test_more_frames_between_false_alarms_need_higher_thresholds() -> None:
    """Ten times as many: ln 10 more, for each chart."""
    few, many = (charts_of("classification", frames).thresholds for frames in (STATED, 10 * STATED))
    assert many - few == pytest.approx(np.log(10))


@pytest.mark.parametrize("task", MODELS)
def test_a_reference_of_a_later_version_is_read(task: Task) -> None:
    """A measure of an unknown name is ignored, and one that is missing has no chart."""
    histogram = Histogram(edges=(0.5,), shares=(0.5, 0.5))
    later = Reference(frames=100, measures={"brightness": histogram, "hue": histogram}, classes=(1.0,))
    charts = Charts(task, later, ("a",), STATED)
    assert [each.measure for each in charts.charts] == ["brightness", "brightness"]
    assert charts.gains([0, 0, 0, 0.9, 0, 0]).shape == (2,)
