"""dashboard.state: messages in, the view out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dashboard.state import RECENT, REMEMBERED, State
from tests.unit.dashboard.bodies import JPEG, body, detection, latency, prediction, preview_properties


def state(*messages: dict[str, Any]) -> State:
    """A state that took these messages, one in each tenth of a second."""
    made = State(0.0)
    for number, message in enumerate(messages):
        made.take(body(message), {}, number / 10)
    return made


def view(*messages: dict[str, Any], now_s: float = 3.0) -> dict[str, Any]:
    """The view after these messages; it can be written as JSON."""
    found = state(*messages).view(now_s, connected=True)
    json.dumps(found, allow_nan=False)
    return found


def test_the_newest_answer_is_first() -> None:
    """Label, confidence, age and model of each are shown."""
    shown = view(prediction(0), prediction(1, "dog"))["recent"]
    assert [(each["seq"], each["label"], each["age_s"]) for each in shown] == [
        (1, "dog", 2.9),
        (0, "cat", 3.0),
    ]
    assert shown[0]["confidence"] == 0.9
    assert shown[0]["model"] == "pets:1.0.0"


def test_a_repeated_message_is_shown_once() -> None:
    """Messages come at least once: camera, run and sequence number identify a frame."""
    assert view(prediction(7), prediction(7))["answers"] == 1
    assert view(prediction(7), prediction(8))["answers"] == 2  # counter-proof


def test_memory_is_bounded() -> None:
    """After many answers, models and latency messages the view is as large as after a hundred."""
    sizes = []
    for count in (200, 3 * REMEMBERED):
        made = State(0.0)
        for seq in range(count):
            version = f"1.0.{seq % 1000:04}"
            made.take(
                body(prediction(seq + 10_000, f"label {seq}", version=version)), {"truth": f"{seq}"}, 1.0
            )
            made.take(body(latency(instance=f"{seq:06}")), {}, 1.0)
        found = made.view(2.0, connected=True)
        assert len(found["recent"]) == RECENT
        sizes.append(len(json.dumps(found)))
        assert len(made._identities) <= REMEMBERED
    assert sizes[1] < sizes[0] * 1.05


def test_a_batch_answers_each_of_its_frames() -> None:
    """`twinship.predictions.v1` holds several answers."""
    batch = {
        "schema": "twinship.predictions.v1",
        "predictions": [prediction(0), prediction(1)],
        "before": None,
    }
    assert view(batch)["answers"] == 2


def test_the_objects_of_a_detector_are_shown_with_their_boxes() -> None:
    """A detection has no top label."""
    shown = view(detection())["recent"][0]
    assert shown["label"] is None
    assert [each["label"] for each in shown["detections"]] == ["cat", "cat"]
    assert shown["detections"][0]["box"] == {"l": 0.1, "t": 0.2, "w": 0.3, "h": 0.4}


def test_the_truth_of_a_detector_s_frame_is_shown_as_a_count_of_each_label() -> None:
    """The text of the boxes is for programs."""
    side = {"l": 0.1, "t": 0.2, "w": 0.3, "h": 0.4}
    for labels, text in ((("dog", "cat", "cat"), "2 cat, 1 dog"), ((), "nothing")):
        truth = json.dumps([{"label": label, "box": side} for label in labels])
        shown = view(detection() | {"truth": truth})["recent"][0]
        assert (shown["truth"], shown["wrong"]) == (text, None)


def test_another_model_begins_a_line_of_the_time_line() -> None:
    """An earlier model that answers again is marked."""
    first, second = prediction(0), prediction(1, version="1.1.0")
    lines = view(first, second, prediction(2), prediction(3))["models"]
    assert [(each["version"], each["again"], each["frames"]) for each in lines] == [
        ("1.0.0", True, 2),
        ("1.1.0", False, 1),
        ("1.0.0", False, 1),
    ]


def test_right_and_wrong_are_counted_where_the_truth_is_known() -> None:
    """A model's answers by truth and label; without truth there is nothing to show."""
    assert view(prediction())["accuracy"] is None
    found = view(prediction(0, truth="cat"), prediction(1, truth="dog"), prediction(2))["accuracy"]
    assert (found["right"], found["of"], found["labels"]) == (1, 2, ["cat", "dog"])
    assert found["matrix"] == [[1, 0], [1, 0]]
    assert found["classes"] == [
        {"label": "cat", "frames": 1, "precision": 0.5, "recall": 1.0},
        {"label": "dog", "frames": 1, "precision": None, "recall": 0.0},
    ]
    shown = view(prediction(1, truth="dog"))["recent"][0]
    assert (shown["truth"], shown["wrong"]) == ("dog", True)


def test_a_hundred_labels_have_a_row_and_the_others_count_in_the_accuracy_only() -> None:
    """A matrix is for few labels. A model with many must not fill the memory."""
    found = view(*(prediction(seq, f"label {seq}", truth=f"label {seq}") for seq in range(150)))["accuracy"]
    assert (found["right"], found["of"], len(found["classes"]), found["matrix"]) == (150, 150, 100, None)


def test_an_unknown_schema_is_named_as_such() -> None:
    """A newer module, or a route of another output."""
    notes = view({"schema": "twinship.frame.v9"})["notes"]
    assert notes[-1]["text"].endswith("The last one: schema: none that this page knows")


def test_the_truth_may_be_a_property_of_the_message() -> None:
    """As a frame message carries it."""
    made = State(0.0)
    made.take(body(prediction()), {"truth": "cat"}, 0.0)
    assert made.view(1.0, connected=True)["recent"][0]["wrong"] is False


def test_a_new_model_starts_its_own_count_of_right_answers() -> None:
    """The figures are those of the model in use."""
    answers = prediction(0, truth="dog"), prediction(1, version="1.1.0", truth="cat")
    assert view(*answers)["accuracy"]["of"] == 1


def test_the_stages_come_from_inferences_window() -> None:
    """Each begins where the one before ends; the total is inference's own, not the sum."""
    stages = view(prediction(), latency())["stages"]
    assert (stages["of"], stages["frames"]) == ("window", 100)
    assert [row["name"] for row in stages["rows"]][:3] == ["encode", "transit", "queue"]
    assert stages["rows"][2]["start"] == pytest.approx(5.1)
    assert (stages["rows"][1]["p50"], stages["rows"][1]["p99"]) == (5.0, 45.0)
    assert stages["total"] == {"p50": 9.7, "p99": pytest.approx(87.3)}


def test_until_the_first_window_the_stages_come_from_the_answers() -> None:
    """And an empty window does not replace them."""
    empty = latency(frames=0, stages_ms={})
    for shown in (view(prediction()), view(prediction(), empty)):
        assert shown["stages"]["of"] == "answers"
        assert shown["stages"]["total"] is None
    published = prediction(1, before={"frame": {}, "publish_ms": 4.0})
    assert view(prediction(), published)["stages"]["rows"][-1]["name"] == "publish"


def test_a_video_source_has_a_stage_more() -> None:
    """`mailbox` is before `encode`; a stage that nobody knows is left out."""
    stages = view(prediction(stages_ms={"mailbox": 2.0, "encode": 1.0, "teleport": 1.0}))["stages"]
    assert [row["name"] for row in stages["rows"]] == ["mailbox", "encode"]


def test_the_rate_is_the_mean_of_the_last_whole_seconds() -> None:
    """And falls to 0 when nothing comes."""
    answers = [prediction(seq) for seq in range(30)]
    assert view(*answers)["rate"] == {"now": 10.0, "series": [10, 10, 10]}
    assert view(*answers, now_s=30.0)["rate"]["now"] == 0


def test_the_window_counts_frames_and_drops_by_reason() -> None:
    """`finished` is every frame with an outcome."""
    counts = {"suppressed": 5, "suppressedBy": {"unchanged": 3, "budget": 2}}
    window = view(latency(answered=90, **counts, dropped={"overload": 4, "engine": 1}))["window"]
    assert window["suppressed_by"] == {"unchanged": 3, "budget": 2}
    assert (window["finished"], window["per_second"], window["dropped"]["overload"]) == (100, 10.0, 4)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"schema": "twinship.frame.v9"}',
        body(prediction()).replace(b"0.9", b"NaN"),
        body(prediction()).replace(b"0.9", b"1e999"),
        body(prediction(frame={"camera": "c", "run": "r", "seq": -1})),
        body(latency(dropped=[])),
        b'{"a":' * 100_000,
    ],
    ids=range(10),
)
def test_a_body_that_cannot_be_read_is_counted(bad: bytes) -> None:
    """It changes nothing else, and the page says where it differs."""
    made = State(0.0)
    made.take(bad, {}, 0.0)
    shown = made.view(1.0, connected=True)
    assert (shown["unreadable"], shown["answers"], shown["window"]) == (1, 0, None)
    assert shown["notes"][-1]["text"].startswith("Messages that could not be read: 1.")


def test_texts_are_cut_and_lose_characters_that_reorder_others() -> None:
    """Markup stays text; the page shows it with textContent."""
    shown = view(prediction(0, "<b>\u202e\x00" + "x" * 1_000))["recent"][0]["label"]
    assert shown == "<b>\ufffd\ufffd" + "x" * 123


# Pictures


def key(seq: int) -> str:
    """Of the frame that `prediction(seq)` answers."""
    return f"door-0123456789abcdef-{seq}"


def test_a_picture_is_shown_with_the_answer_to_its_frame() -> None:
    """Label, boxes and confidence belong to the very frame that is shown, whichever of the two came first."""
    for picture_first in (True, False):
        made = State(0.0)
        if picture_first:
            made.take_picture(JPEG, preview_properties(1), 0.0)
        made.take(body(detection(1)), {}, 0.0)
        if not picture_first:
            made.take_picture(JPEG, preview_properties(1), 0.0)
        found = made.view(0.5, connected=True)["frame"]
        assert (found["key"], len(found["answer"]["detections"])) == (key(1), 2)
        assert made.picture(key(1)) == JPEG


def test_a_newer_picture_waits_a_second_for_its_answer() -> None:
    """So the page does not blink between a frame with boxes and one without; then the newest is shown."""
    made = State(0.0)
    made.take_picture(JPEG, preview_properties(1), 0.0)
    made.take(body(prediction(1)), {}, 0.1)
    made.take_picture(JPEG, preview_properties(2), 0.9)
    assert made.view(1.0, connected=True)["frame"]["key"] == key(1)
    made.take_picture(JPEG, preview_properties(3), 1.1)
    found = made.view(1.2, connected=True)["frame"]
    assert (found["key"], found["answer"]) == (key(3), None)


def test_the_truth_of_a_picture_judges_its_answer_once() -> None:
    """A preview carries the truth of a simulated camera; inference's messages have none."""
    for picture_first in (True, False):
        made = State(0.0)
        take = [
            lambda made=made: made.take_picture(JPEG, preview_properties(1, truth="dog"), 0.0),
            lambda made=made: made.take(body(prediction(1, "cat")), {}, 0.0),
        ]
        for each in take if picture_first else reversed(take):
            each()
        made.take_picture(JPEG, preview_properties(1, truth="dog"), 0.0)  # delivered again
        shown = made.view(1.0, connected=True)
        assert (shown["recent"][0]["wrong"], shown["recent"][0]["truth"]) == (True, "dog")
        assert (shown["accuracy"]["right"], shown["accuracy"]["of"]) == (0, 1)


def test_an_answer_without_a_picture_has_none_to_show() -> None:
    """The page asks only for pictures that are there."""
    made = State(0.0)
    made.take_picture(JPEG, preview_properties(1), 0.0)
    for seq in (1, 2):
        made.take(body(prediction(seq)), {}, 0.0)
    assert [each["pictured"] for each in made.view(1.0, connected=True)["recent"]] == [False, True]


def test_what_is_no_preview_is_counted_and_said() -> None:
    """As a body that cannot be read."""
    made = State(0.0)
    made.take_picture(b"<svg>", preview_properties(), 0.0)
    shown = made.view(1.0, connected=True)
    assert (shown["unreadable"], shown["frame"]) == (1, None)
    assert "preview: no JPEG" in shown["notes"][-1]["text"]


def test_why_there_are_no_pictures_is_said() -> None:
    """The camera's own words, until it sends some again."""
    made = State(0.0)
    made.preview_asked("preview.allow is false")
    assert made.view(1.0, connected=True)["preview_failure"] == "preview.allow is false"
    made.preview_asked("")
    assert made.view(1.0, connected=True)["preview_failure"] == ""
