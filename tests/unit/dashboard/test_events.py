"""dashboard.events: the time line, the modules, drift and their notes, through the state's view."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.events import CHANGES, MODEL_STATES
from dashboard.state import State
from tests.unit.dashboard.bodies import body, camera_event, event, latency, model_event, prediction

REFUSED = {"code": "wrong-answers", "message": "it answers 3 of its 10 probes wrongly"}


def view(*messages: dict[str, Any], now_s: float = 1.0, connected: bool = True) -> dict[str, Any]:
    """The view after these messages, which came at second 0."""
    made = State(0.0)
    for message in messages:
        made.take(body(message), {}, 0.0)
    return made.view(now_s, connected=connected)


def states(shown: dict[str, Any]) -> list[str]:
    """Of the time line, newest first."""
    return [each["state"] for each in shown["timeline"]]


def test_the_time_line_has_each_change_once_newest_first() -> None:
    """A repeat is no change; neither is a message that is delivered again."""
    offered, active = model_event("checking", 0), model_event("active", 1)
    shown = view(offered, offered, active, active | {"repeated": True}, offered)
    assert states(shown) == ["active", "checking"]
    assert shown["timeline"][0]["model"] == "pets:1.0.0"
    assert shown["timeline"][0]["at_ms"] == 1_700_000_001_000


def test_the_same_state_at_another_time_is_another_change() -> None:
    """Counter-proof: a model that is offered again."""
    assert states(view(model_event("checking", 0), model_event("checking", 1))) == ["checking", "checking"]


def test_a_page_that_starts_late_learns_the_present_state() -> None:
    """From a repeat, with the time of the change."""
    assert states(view(model_event("active", 5, repeated=True))) == ["active"]


def test_the_time_line_is_bounded() -> None:
    """The oldest changes go first."""
    shown = view(*(model_event("active", number) for number in range(100)))
    assert len(shown["timeline"]) == CHANGES
    assert shown["timeline"][0]["at_ms"] == 1_700_000_099_000


def test_a_refusal_has_its_reason_and_a_note() -> None:
    """In words, with what to do; the note goes when the state does."""
    refused = model_event("refused", 1, "2.0.0", reason=REFUSED)
    shown = view(refused)
    change = shown["timeline"][0]
    assert (change["level"], change["reason"]) == ("error", f"{REFUSED['code']}: {REFUSED['message']}")
    (note,) = shown["notes"]
    assert note["text"].startswith("Model pets:2.0.0: refused. wrong-answers: it answers 3")
    assert "publish it again" in note["cure"]
    assert view(refused, model_event("active", 2, "2.0.1"))["notes"] == []


def test_a_rollback_is_told_from_a_failure() -> None:
    """Both are `withdrawn`; a person did the one."""
    person = model_event("withdrawn", 1, reason={"code": "rolled-back", "message": "by method"})
    failed = model_event("withdrawn", 1, reason={"code": "too-slow", "message": "p95"})
    assert [view(each)["timeline"][0]["words"] for each in (person, failed)] == ["rolled back", "withdrawn"]


def test_the_states_of_inference_are_all_in_words() -> None:
    """The page must not show a bare code."""
    model_section = pytest.importorskip("inference.model_section")
    assert set(MODEL_STATES) == {state.value for state in model_section.ModelState}


def test_a_lost_camera_is_said_with_its_reason() -> None:
    """As the state of the camera and as a note; it goes when the camera is back."""
    lost = camera_event("lost", 0, reason="Connection refused", lost=3)
    shown = view(prediction(), lost)
    assert shown["modules"][1]["words"] == "has lost its source"
    assert "Connection refused" in shown["modules"][1]["more"]
    assert shown["notes"][0]["text"] == "door has lost its source: Connection refused"
    back = view(prediction(), lost, camera_event("streaming", 1))
    assert (back["notes"], back["modules"][1]["level"]) == ([], "good")


def test_a_camera_says_its_rate_or_that_it_is_paused() -> None:
    """A lost source is worse than a pause."""
    rate = view(camera_event("streaming", fps=12.5))["modules"][1]
    assert (rate["words"], "12.5 frames/s" in rate["more"]) == ("has pictures", True)
    paused = view(camera_event("streaming", fps=12.5, paused=True))["modules"][1]
    assert (paused["words"], paused["level"], "frames/s" in paused["more"]) == ("is paused", "info", False)
    lost = view(camera_event("lost", paused=True))["modules"][1]
    assert lost["words"] == "has lost its source"


def test_hub_camera_and_inference_have_a_state() -> None:
    """Before anything is heard, while all is well, and after half a minute of silence."""
    words = [each["words"] for each in view()["modules"]]
    assert words == ["connected", "not heard of", "not heard of"]
    serving = {"name": "pets", "version": "1.0.0", "sha256": "a"}
    all_well = camera_event("streaming"), model_event("active", active=serving)
    assert [each["level"] for each in view(*all_well)["modules"]] == ["good", "good", "good"]
    assert view(*all_well)["modules"][2]["more"] == "pets:1.0.0"
    silent = view(*all_well, now_s=30.0)["modules"]
    assert [each["words"] for each in silent[1:]] == ["silent for 30 s", "silent for 30 s"]
    assert view(connected=False)["modules"][0]["words"] == "no connection"


def test_without_a_route_of_events_inference_is_known_by_its_other_messages() -> None:
    """Answers and latency show that it runs."""
    assert view(latency())["modules"][2]["words"] == "runs"


def test_drift_is_shown_and_noted_when_a_detector_reports_it() -> None:
    """Without a detector there is no panel; without drift no note."""
    facts: dict[str, Any] = {
        "detector": "cusum",
        "measure": "brightness",
        "value": 4.5,
        "since": "2026-11-28T10:00:00Z",
    }
    assert view()["drift"] is None
    calm = view(prediction(), event("drift", "none", **facts | {"since": None}))
    assert (calm["drift"]["state"], calm["notes"]) == ("none", [])
    found = view(prediction(), event("drift", "drift", **facts))
    assert found["drift"] == {"state": "drift", **facts}
    assert "(cusum of brightness)" in found["notes"][0]["text"]


def test_an_event_of_another_kind_changes_nothing() -> None:
    """A newer module may send more kinds than this page knows; they are no errors either."""
    shown = view(event("weather", "rain"))
    assert (shown["timeline"], shown["unreadable"]) == ([], 0)


def test_texts_of_events_are_cut_and_cleaned() -> None:
    """They come from twins and files of others."""
    nasty = {"code": "bad\u202e", "message": "m" * 10_000}
    change = view(model_event("refused", reason=nasty))["timeline"][0]
    assert change["reason"] == "bad\ufffd: " + "m" * 400


def test_while_the_hub_is_away_old_events_give_no_notes() -> None:
    """The one note says that there is no connection."""
    assert len(view(camera_event("lost"), connected=False)["notes"]) == 1
