"""Predictions as messages, and the filter for changes."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from edgekit.frame.message import Frame, FrameId
from inference.frames.ledger import UNKNOWN, PublishTime, StageTimes
from inference.frames.prediction import (
    Classified,
    Detected,
    Detection,
    Prediction,
    Scored,
    best,
    json_message,
    located,
)
from inference.model_section import ModelRef
from tests.unit.inference.fixtures import tiny_model

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
    stages = (UNKNOWN, 400_000, 1_100_000, 50_000, 200_000, 100_000, 50_000)
    times = StageTimes(source.id, stages, "monotonic", 0)
    answer = Classified((Scored(label, 0.75), Scored("1", 0.25)), uncertain)
    return Prediction(source, ref, MANIFEST, answer, times)


def test_the_message_holds_the_whole_prediction() -> None:
    """The body has schema, identity, model, top, stages and the publish time of the predecessor."""
    publish_times = (PublishTime(FrameId("camera", RUN, 6), 1_000_000),)
    message = prediction().to_message(publish_times, "00112233aabbccdd")
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


def test_an_uncertain_prediction_says_so() -> None:
    """The label property is empty, so that no route matches it; the body has the labels."""
    message = prediction(uncertain=True).to_message((), "i")
    body = json.loads(message.body)
    assert (message.properties["label"], body["uncertain"], body["before"]) == ("", True, None)
    assert body["top"][0]["label"] == "7"


def test_labels_may_use_any_alphabet() -> None:
    """The body is UTF-8."""
    body = json.loads(prediction("sieben ７ «7»").to_message((), "i").body)
    assert body["top"][0]["label"] == "sieben ７ «7»"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_become_null(number: float) -> None:
    """JSON has no NaN and no infinity."""
    assert json_message({"p50": number}).body == b'{"p50":null}'


@pytest.mark.parametrize(("top_k", "labels"), [(1, "b"), (2, "ba"), (3, "bac"), (9, "bac")])
def test_the_highest_scores_come_first(top_k: int, labels: str) -> None:
    """At most top_k labels, highest first; fewer if the model has fewer."""
    top = best(np.array([0.3, 0.6, 0.1], np.float32), ("a", "b", "c"), top_k)
    assert [scored.label for scored in top] == list(labels)
    assert top[0] == Scored("b", 0.6)


def test_equal_scores_keep_the_order_of_the_model() -> None:
    """The same picture always gives the same prediction."""
    scores = np.array([0.25, 0.25, 0.25, 0.25], np.float32)
    assert [scored.label for scored in best(scores, "abcd", 4)] == list("abcd")


def detected(*labels: str) -> Prediction:
    found = tuple(Detection(label, 0.5, (0.1, 0.2, 0.3, 0.4)) for label in labels)
    return replace(prediction(), answer=Detected(found))


def test_a_detection_message_has_boxes_and_properties_for_routes() -> None:
    """Boxes are left, top, width, height; `labels` is sorted and unique, a comma in a label is a space."""
    message = detected("person", "car, red", "person").to_message((), "i")
    body = json.loads(message.body)
    assert body["schema"] == "twinship.detection.v1"
    assert "top" not in body
    assert body["detections"][0] == {
        "label": "person",
        "confidence": 0.5,
        "box": {"l": 0.1, "t": 0.2, "w": 0.3, "h": 0.4},
    }
    assert message.properties == {"labels": "car  red,person", "count": "3", "model": "bands:1.0.0"}
    assert detected().to_message((), "i").properties["count"] == "0"


def test_the_property_labels_is_bounded() -> None:
    """Whole labels are left out; the body has them all."""
    message = detected(*(f"{number:0100}" for number in range(300))).to_message((), "i")
    assert len(message.properties["labels"]) <= 2048
    assert (message.properties["count"], len(json.loads(message.body)["detections"])) == ("300", 300)
    assert len(message.body) < 258_048


def test_boxes_are_mapped_back_to_the_whole_picture() -> None:
    """A letterboxed input shows more than the picture: what lies outside is cut off or left out."""
    answer = np.array(
        [[0, 0.9, 0, 0.25, 0.5, 0.75], [1, 0.8, 0, 0, 1, 0.2], [1, 0.7, 0, 0, 1, 1]], np.float32
    )
    found = located(answer, ("a", "b"), (0.0, -0.5, 1.0, 2.0))
    assert [(each.label, each.box) for each in found] == [
        ("a", (0.0, 0.0, 0.5, 1.0)),
        ("b", (0.0, 0.0, 1.0, 1.0)),
    ]


def test_many_labels_are_sorted_as_few_are() -> None:
    """Equal scores keep the model's order, however many labels there are."""
    scores = np.zeros(1001, np.float32)
    scores[[7, 900, 3]] = (0.5, 0.9, 0.5)
    assert [each.label for each in best(scores, range(1001), 4)] == [900, 3, 7, 0]  # type: ignore[arg-type,comparison-overlap]
