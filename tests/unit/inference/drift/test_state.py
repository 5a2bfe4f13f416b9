"""The state of drift for each camera, and the events of its changes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from camera_sim.sources.settings import DIGITS, SceneDials
from edgekit.frame.message import Frame, FrameId
from inference.drift.measures import MEASURES
from inference.drift.state import MAX_CAMERAS, NOT_AVAILABLE, OFF, Drift
from inference.models.installer import Running
from tests.unit.inference.drift import scene_detector
from tests.unit.inference.drift.scene_model import DEVICE, Pixels, pictures, scene_reference, scores
from tests.unit.inference.fixtures.doubles import FakeEngine, frame, running

BRIGHT = SceneDials(brightness=60)
SECOND = 10**9


def model(version: str = "1.0.0", *, reference: bool = True) -> Running:
    """A running model of the scene."""
    engine = FakeEngine()
    engine.labels = tuple(DIGITS)
    made = running(engine, version)
    return replace(
        made,
        manifest=made.manifest.model_copy(update={"reference": scene_reference() if reference else None}),
    )


class Bench:
    """Frames of the scene for a Drift, one a second."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.drift = Drift(self._on_event)
        self.model = model()
        self.now = 0
        self.seq = 0

    def _on_event(self, kind: str, body: Mapping[str, Any]) -> None:
        assert kind == "drift"
        self.events.append(dict(body))

    def frame(self, camera: str) -> Frame:
        self.seq += 1
        return replace(frame(), id=FrameId(camera, "0123456789abcdef", self.seq), captured=self.seq * 10**9)

    def show(self, images: Pixels, camera: str = "door", pause_ns: int = SECOND) -> None:
        for pixels, confidences in zip(images, scores(images), strict=True):
            self.drift.observe(self.frame(camera), self.model, pixels, confidences, self.now)
            self.now += pause_ns

    def states(self) -> list[str]:
        return [each["state"] for each in self.events]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def undisturbed(count: int) -> Pixels:
    return pictures(count, DEVICE)[0]


def bright(count: int) -> Pixels:
    return pictures(count, DEVICE, BRIGHT)[0]


def test_drift_begins_and_ends_with_an_event(bench: Bench) -> None:
    """The event names camera, measure, threshold, first frame and model; without drift there is none."""
    bench.show(undisturbed(50))
    assert (bench.events, bench.drift.status["state"]) == ([], "none")
    bench.show(bright(30))
    (event,) = bench.events
    assert (event["state"], event["camera"], event["detector"]) == ("drift", "door", "cusum")
    assert event["measure"] == "brightness" or event["direction"]
    assert event["value"] >= event["threshold"] > 0
    assert 45 <= event["since_frame"]["seq"] <= 60
    assert event["since"] == f"1970-01-01T00:00:{event['since_frame']['seq']:02}Z"
    assert event["model"] == {"name": "bands", "version": "1.0.0", "sha256": bench.model.ref.sha256}
    assert bench.drift.status == event
    assert max(bench.drift.ratios().values()) >= 1
    bench.show(undisturbed(300))
    assert bench.states() == ["drift", "none"]
    assert bench.drift.status["state"] == "none"


def test_of_a_fast_camera_one_frame_a_second_is_looked_at(bench: Bench) -> None:
    """A second of bright frames at 100 frames a second is one bright frame."""
    bench.show(undisturbed(5))
    bench.show(bright(99), pause_ns=SECOND // 100)
    assert bench.events == []


def test_cameras_do_not_share_their_sums(bench: Bench) -> None:
    """The drift of one camera is found between the frames of another, and named."""
    for ordinary, disturbed in zip(undisturbed(30), bright(30), strict=True):
        bench.show(ordinary[np.newaxis], "yard", pause_ns=0)
        bench.show(disturbed[np.newaxis], "door")
    assert [each["camera"] for each in bench.events] == ["door"]
    assert {camera for camera, _ in bench.drift.ratios()} == {"yard", "door"}


def test_another_model_begins_anew(bench: Bench) -> None:
    """Its drift is not that of the model before; the event says that it is over."""
    bench.show(bright(30))
    bench.model = model("2.0.0")
    bench.show(undisturbed(1))
    assert bench.states() == ["drift", "none"]
    assert bench.events[-1]["model"]["version"] == "2.0.0"


@pytest.mark.parametrize("how", ["reload", "twin"])
def test_a_reset_begins_anew(bench: Bench, how: str) -> None:
    """The method reload, or another number of frames in the twin; the same number changes nothing."""
    bench.show(bright(30))
    bench.drift.configure(100_000)
    bench.show(bright(1))
    assert bench.states() == ["drift"]
    if how == "reload":
        bench.drift.reset()
    else:
        bench.drift.configure(50_000)
    bench.show(undisturbed(1))
    assert bench.states() == ["drift", "none"]


def test_a_restarted_camera_begins_anew(bench: Bench) -> None:
    """Another run has another scene."""
    bench.show(bright(30))
    pixels = undisturbed(1)
    other = replace(bench.frame("door"), id=FrameId("door", "f" * 16, 0))
    bench.drift.observe(other, bench.model, pixels[0], scores(pixels)[0], bench.now)
    assert bench.states() == ["drift", "none"]


def test_a_model_without_a_reference_has_no_drift(bench: Bench) -> None:
    """An artefact of an earlier version works as before."""
    assert bench.drift.status == NOT_AVAILABLE
    bench.model = model(reference=False)
    bench.show(bright(30))
    assert (bench.events, bench.drift.status, bench.drift.ratios()) == ([], NOT_AVAILABLE, {})


def test_zero_frames_switch_detection_off(bench: Bench) -> None:
    """`framesBetweenFalseAlarms: 0`."""
    bench.drift.configure(0)
    bench.show(bright(30))
    assert (bench.events, bench.drift.status) == ([], OFF)


def test_more_cameras_than_remembered_are_not_looked_at(bench: Bench) -> None:
    """Memory is bounded."""
    pixels = undisturbed(1)
    for number in range(MAX_CAMERAS + 5):
        bench.show(pixels, f"camera{number}")
    assert len({camera for camera, _ in bench.drift.ratios()}) == MAX_CAMERAS


def test_a_detector_has_drift_too(bench: Bench) -> None:
    """Its answers are arrays of detections; from the moment that it finds nothing, the event is near."""
    made = model()
    update = {"task": "detection", "reference": scene_detector.scene_reference()}
    bench.model = replace(made, manifest=made.manifest.model_copy(update=update))
    images = scene_detector.pictures(80, DEVICE)
    answers = scene_detector.answers(images)
    answers[50:] = [scene_detector.NOTHING] * 30
    for pixels, answer in zip(images, answers, strict=True):
        assert bench.events == [] or bench.seq > 50
        bench.drift.observe(bench.frame("door"), bench.model, pixels, answer, bench.now)
        bench.now += SECOND
    (event,) = bench.events
    assert (event["state"], event["measure"] in {"confidence", "count", "class_mix"}) == ("drift", True)
    assert 45 <= event["since_frame"]["seq"] <= 55
    measures = {measure for _, measure in bench.drift.ratios()}
    assert measures == {*MEASURES["detection"].names, "class_mix"}
