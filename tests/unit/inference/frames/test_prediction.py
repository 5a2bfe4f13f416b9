"""An answer as a message, and whether it is news."""

import json
import math

import numpy as np
import pytest

from edgekit.frame.message import Frame, FrameId
from inference.frames.ledger import Published, StageTimes
from inference.frames.prediction import (
    REMEMBERED_CAMERAS,
    ChangeFilter,
    Prediction,
    Predictions,
    Scored,
    best,
    json_message,
)
from inference.model_section import ModelRef
from tests.unit.inference import tiny_model

RUN = "0123456789abcdef"
MANIFEST = tiny_model.artefact().manifest
REF = ModelRef("bands", "1.0.0", 1_565, "a" * 64)


def prediction(
    label: str = "7", *, camera: str = "camera", sha256: str = "a" * 64, uncertain: bool = False
) -> Prediction:
    source = Frame(
        FrameId(camera, RUN, 7),
        b"\0",
        "application/octet-stream",
        1,
        1,
        1,
        1_700_000_000_000_000_000,
        0,
        0,
        "b",
    )
    ref = ModelRef("bands", "1.0.0", 1_565, sha256)
    return Prediction(source, ref, MANIFEST, (Scored(label, 0.75), Scored("1", 0.25)), uncertain)


def walked() -> StageTimes:
    return StageTimes(
        FrameId("camera", RUN, 7), (400_000, 1_100_000, 50_000, 200_000, 100_000, 50_000), "monotonic", 0
    )


def test_the_message_holds_the_whole_answer() -> None:
    """Schema, identity, model, top, stages and the predecessor's publish time, under the frame's own id."""
    told = (Published(FrameId("camera", RUN, 6), 1_000_000),)
    message = prediction().to_message(walked(), told, "00112233aabbccdd")
    assert json.loads(message.body) == {
        "schema": "twinship.prediction.v1",
        "instance": "00112233aabbccdd",
        "frame": {"camera": "camera", "run": RUN, "seq": 7},
        "captured": 1_700_000_000_000_000_000,
        "model": {"name": "bands", "version": "1.0.0", "sha256": "a" * 64, "weights": "c0ffee"},
        "top": [{"label": "7", "confidence": 0.75}, {"label": "1", "confidence": 0.25}],
        "stages_ms": {
            "encode": 0.4,
            "transit": 1.1,
            "queue": 0.05,
            "preprocess": 0.2,
            "invoke": 0.1,
            "postprocess": 0.05,
        },
        "clock": "monotonic",
        "before": {"frame": {"camera": "camera", "run": RUN, "seq": 6}, "publish_ms": 1.0},
    }
    assert message.properties == {"label": "7", "confidence": "0.75", "model": "bands:1.0.0"}
    assert message.message_id == f"camera-{RUN}-7"
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


def test_an_uncertain_answer_says_so() -> None:
    """Below the threshold no route may take the label for an answer; the body still has it."""
    message = prediction(uncertain=True).to_message(walked(), (), "i")
    body = json.loads(message.body)
    assert (message.properties["label"], body["uncertain"], body["before"]) == ("", True, None)
    assert body["top"][0]["label"] == "7"


def test_labels_of_any_alphabet_survive() -> None:
    """The body is UTF-8."""
    body = json.loads(prediction("sieben ７ «7»").to_message(walked(), (), "i").body)
    assert body["top"][0]["label"] == "sieben ７ «7»"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_no_word_for_is_null(number: float) -> None:
    """NaN is no JSON: a program upstream would choke on it."""
    assert json_message({"p50": number}).body == b'{"p50":null}'


@pytest.mark.parametrize(("top_k", "labels"), [(1, "b"), (2, "ba"), (3, "bac"), (9, "bac")])
def test_the_surest_come_first(top_k: int, labels: str) -> None:
    """At most top_k, surest first, as many as there are."""
    top = best(np.array([0.3, 0.6, 0.1], np.float32), ("a", "b", "c"), top_k)
    assert [scored.label for scored in top] == list(labels)
    assert top[0] == Scored("b", 0.6)


def test_among_equals_the_models_order_decides() -> None:
    """The same picture gives the same answer, always."""
    scores = np.array([0.25, 0.25, 0.25, 0.25], np.float32)
    assert [scored.label for scored in best(scores, "abcd", 4)] == list("abcd")


@pytest.mark.parametrize(("mode", "wanted"), [("all", True), ("none", False), ("changes", False)])
def test_what_was_said_already_is_no_news(mode: Predictions, wanted: bool) -> None:
    """Of the same answer again, "all" is told, "changes" and "none" are not."""
    told = ChangeFilter()
    told.sent(prediction())
    assert told.wanted(mode, [prediction()]) == [wanted]


def test_news_is_another_label_model_camera_or_doubt() -> None:
    """A change of any of them is told; what could not be sent stays news."""
    told = ChangeFilter()
    assert told.wanted("changes", [prediction()]) == [True]
    assert told.wanted("changes", [prediction()]) == [True]
    told.sent(prediction())
    for changed in (
        prediction("8"),
        prediction(sha256="b" * 64),
        prediction(camera="other"),
        prediction(uncertain=True),
    ):
        assert told.wanted("changes", [changed]) == [True]


def test_cameras_are_remembered_up_to_a_bound() -> None:
    """The longest silent is forgotten, which costs one message more."""
    told = ChangeFilter()
    for number in range(REMEMBERED_CAMERAS + 1):
        told.sent(prediction(camera=f"camera{number}"))
    assert told.wanted("changes", [prediction(camera="camera0")]) == [True]
    assert told.wanted("changes", [prediction(camera="camera1")]) == [False]
