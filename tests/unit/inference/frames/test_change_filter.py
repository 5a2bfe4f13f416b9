"""Which predictions are sent, and the reason of each that is not."""

from dataclasses import replace
from typing import Any

import pytest

from inference.frames.budget import Use
from inference.frames.change_filter import REMEMBERED_CAMERAS, ChangeFilter
from inference.frames.outcomes import Outcome
from inference.frames.prediction import Prediction
from inference.frames.settings import TelemetrySection
from tests.unit.inference.frames.test_prediction import detected, prediction

S = 10**9


def verdict(change_filter: ChangeFilter, each: Prediction, mode: str = "changes", **other: Any) -> object:
    """The verdict on one prediction."""
    section = TelemetrySection.model_validate({"predictions": mode, **other})
    return change_filter.verdicts(section, [each])[0]


def at(second: int, **other: Any) -> Prediction:
    """A prediction that was answered at this time."""
    each = prediction(**other)
    return replace(each, stage_times=replace(each.stage_times, answered=second * S))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("all", Use.ORDINARY),
        ("changes", Outcome.UNCHANGED),
        ("uncertain", Outcome.CERTAIN),
        ("none", Outcome.OFF),
    ],
)
def test_an_unchanged_certain_prediction_is_sent_in_mode_all_only(mode: str, expected: object) -> None:
    """The other modes have a reason not to send it."""
    change_filter = ChangeFilter()
    change_filter.record_sent(prediction())
    assert verdict(change_filter, prediction(), mode) is expected


def test_another_label_model_camera_or_certainty_is_a_change() -> None:
    """Each of them is sent; a prediction that was not sent stays a change."""
    change_filter = ChangeFilter()
    assert verdict(change_filter, prediction()) is Use.CHANGE
    assert verdict(change_filter, prediction()) is Use.CHANGE
    change_filter.record_sent(prediction())
    for changed in (
        prediction("8"),
        prediction(sha256="b" * 64),
        prediction(camera="other"),
        prediction(uncertain=True),
    ):
        assert verdict(change_filter, changed) is Use.CHANGE


def test_mode_uncertain_sends_each_uncertain_answer_and_no_other() -> None:
    """A change of the label alone is not sent; an uncertain answer is, also after another one."""
    change_filter = ChangeFilter()
    for _ in range(2):
        assert verdict(change_filter, prediction(uncertain=True), "uncertain") is Use.CHANGE
        change_filter.record_sent(prediction(uncertain=True))
    assert verdict(change_filter, prediction("8"), "uncertain") is Outcome.CERTAIN
    unsure = replace(detected("a"), answer=replace(detected("a").answer, uncertain=True))
    assert verdict(change_filter, unsure, "uncertain") is Use.CHANGE


def test_mode_all_ranks_changes_and_uncertain_answers_higher() -> None:
    """A budget that runs short leaves out the ordinary ones first."""
    change_filter = ChangeFilter()
    assert verdict(change_filter, prediction(), "all") is Use.CHANGE
    change_filter.record_sent(prediction())
    assert verdict(change_filter, prediction("8"), "all") is Use.CHANGE
    assert verdict(change_filter, prediction(), "all") is Use.ORDINARY
    change_filter.record_sent(prediction(uncertain=True))
    assert verdict(change_filter, prediction(uncertain=True), "all") is Use.CHANGE


@pytest.mark.parametrize("mode", ["changes", "uncertain"])
def test_a_heartbeat_sends_an_unchanged_answer(mode: str) -> None:
    """Once in heartbeatSeconds after the camera's last message; without it, never."""
    change_filter = ChangeFilter()
    change_filter.record_sent(at(100))
    reason = Outcome.UNCHANGED if mode == "changes" else Outcome.CERTAIN
    assert verdict(change_filter, at(159), mode, heartbeatSeconds=60) is reason
    assert verdict(change_filter, at(160), mode, heartbeatSeconds=60) is Use.CHANGE
    assert verdict(change_filter, at(10_000), mode) is reason
    section = TelemetrySection(predictions="changes", heartbeatSeconds=60)
    assert change_filter.verdicts(section, [at(160), at(160)]) == [Use.CHANGE, Outcome.UNCHANGED]


def test_a_refused_message_is_a_change_again() -> None:
    """`forget` takes `record_sent` back."""
    change_filter = ChangeFilter()
    change_filter.record_sent(prediction())
    change_filter.forget(prediction())
    assert verdict(change_filter, prediction()) is Use.CHANGE


def test_cameras_are_remembered_up_to_a_bound() -> None:
    """The least recent camera is forgotten, which costs one more message."""
    change_filter = ChangeFilter()
    for number in range(REMEMBERED_CAMERAS + 1):
        change_filter.record_sent(prediction(camera=f"camera{number}"))
    assert verdict(change_filter, prediction(camera="camera0")) is Use.CHANGE
    assert verdict(change_filter, prediction(camera="camera1")) is Outcome.UNCHANGED


def test_a_change_of_detections_is_another_count_of_a_label() -> None:
    """The order and the boxes do not matter, the number of objects does."""
    changes = ChangeFilter()
    changes.record_sent(detected("a", "b", "a"))
    assert verdict(changes, detected("a", "a", "b")) is Outcome.UNCHANGED
    assert verdict(changes, detected("a", "b")) is Use.CHANGE
    assert verdict(changes, prediction("a")) is Use.CHANGE
