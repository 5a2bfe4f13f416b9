"""Makes predictions from a model's answers, and messages from predictions.

A classifier's message is `twinship.prediction.v1`, a detector's `twinship.detection.v1`.

>>> best(np.array([0.25, 0.7, 0.05], np.float32), ("cat", "dog", "hen"), top_k=2)
(Scored(label='dog', confidence=0.7), Scored(label='cat', confidence=0.25))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from edgekit.frame.message import MAX_BODY_BYTES, Frame, Message
from inference.artefact import Manifest
from inference.frames.ledger import PublishTime, StageTimes, frame_body, publish_times_body
from inference.model_section import ModelRef

SCHEMA: Final = "twinship.prediction.v1"
DETECTION_SCHEMA: Final = "twinship.detection.v1"
BATCH_SCHEMA: Final = "twinship.predictions.v1"
JSON: Final = "application/json"
UTF8: Final = "utf-8"
MANY_LABELS: Final = 100
"""numpy sorts more labels than these faster than Python does."""

MAX_LABELS_CHARACTERS: Final = 2048
"""Of the property `labels`: hubs limit the properties of a message. The body has all labels."""

Predictions = Literal["all", "changes", "uncertain", "none"]


@dataclass(slots=True)
class Scored:
    """A label and the model's confidence in it, 0 to 1."""

    label: str
    confidence: float


def best(scores: NDArray[np.float32], labels: Sequence[str], top_k: int) -> tuple[Scored, ...]:
    """Return the top_k labels, highest score first; equal scores keep the model's order."""
    if len(scores) > MANY_LABELS:
        order = np.argsort(-scores, kind="stable")[:top_k].tolist()
        values = {index: float(scores[index]) for index in order}
    else:
        values = dict(enumerate(scores.tolist()))
        order = sorted(values, key=values.__getitem__, reverse=True)[:top_k]
    # A float32 has six significant digits: 0.9, not 0.8999999761581421.
    return tuple([Scored(labels[index], round(values[index], 6)) for index in order])


@dataclass(slots=True)
class Classified:
    """A classifier's answer. `top` holds at least one label, highest confidence first."""

    top: tuple[Scored, ...]
    uncertain: bool  # the highest confidence is below the threshold

    @property
    def key(self) -> object:
        """What `changes` compares: the label with the highest confidence; "" if uncertain."""
        return "" if self.uncertain else self.top[0].label

    def body(self) -> dict[str, Any]:
        """Return the answer's part of the message's body."""
        top = [{"label": scored.label, "confidence": scored.confidence} for scored in self.top]
        return {"top": top, "uncertain": True} if self.uncertain else {"top": top}

    def properties(self) -> dict[str, str]:
        """Return the message properties, for routes."""
        label = "" if self.uncertain else self.top[0].label
        return {"label": label, "confidence": str(self.top[0].confidence)}


@dataclass(slots=True)
class Detection:
    """An object in a picture; the box is left, top, width, height in shares of the whole picture."""

    label: str
    confidence: float
    box: tuple[float, float, float, float]


@dataclass(slots=True)
class Detected:
    """A detector's answer: none, one or many objects, highest confidence first."""

    detections: tuple[Detection, ...]
    uncertain: bool = False  # a confidence is below the threshold

    @property
    def key(self) -> object:
        """What `changes` compares: how many objects of which label."""
        return frozenset(Counter(each.label for each in self.detections).items())

    def body(self) -> dict[str, Any]:
        """Return the answer's part of the message's body."""
        found = [
            {
                "label": each.label,
                "confidence": each.confidence,
                "box": dict(zip("ltwh", each.box, strict=True)),
            }
            for each in self.detections
        ]
        return {"detections": found}

    def properties(self) -> dict[str, str]:
        """Return the message properties, for routes. A comma separates labels, so one inside is a space."""
        names = sorted({each.label.replace(",", " ") for each in self.detections})
        while len(labels := ",".join(names)) > MAX_LABELS_CHARACTERS:
            names.pop()
        return {"labels": labels, "count": str(len(self.detections))}


def located(
    answer: NDArray[np.float32], labels: Sequence[str], seen: tuple[float, float, float, float]
) -> tuple[Detection, ...]:
    """Return the detections of a detector's answer, (count, 6), in shares of the whole picture.

    `seen` is the part of the picture that the model saw, as `preprocess.region` returns it. What lies outside
    the picture is cut off; a box without an area inside is left out.
    """
    left, top, width, height = seen
    found = []
    for index, score, *box in answer.tolist():
        l, t, r, b = (  # noqa: E741 (the names of the contract)
            min(1.0, max(0.0, start + share * size))
            for share, start, size in zip(box, (left, top) * 2, (width, height) * 2, strict=True)
        )
        if r > l and b > t:
            place = (round(l, 6), round(t, 6), round(r - l, 6), round(b - t, 6))
            found.append(Detection(labels[int(index)], round(score, 6), place))
    return tuple(found)


SCHEMAS: Final[dict[type, str]] = {Classified: SCHEMA, Detected: DETECTION_SCHEMA}


@dataclass(slots=True)
class Prediction:
    """The answer to one frame."""

    frame: Frame
    ref: ModelRef
    manifest: Manifest
    answer: Classified | Detected
    stage_times: StageTimes

    def record(self, instance: str) -> dict[str, Any]:
        """Return the JSON object of this frame: the body of its message, or one entry of a batch."""
        return {
            "schema": SCHEMAS[type(self.answer)],
            "instance": instance,
            "frame": frame_body(self.frame.id),
            "captured": self.frame.captured,
            "model": _model_body(self.ref, self.manifest.weightsSha256),
            **self.answer.body(),
            "stages_ms": self.stage_times.stages_ms(),
            "clock": self.stage_times.clock,
        }

    def to_message(self, publish_times: Sequence[PublishTime], instance: str) -> Message:
        """Return the message for output `predictions`; its message id is the frame's id."""
        body = self.record(instance)
        body.update(publish_times_body(publish_times))
        properties = {**self.answer.properties(), "model": str(self.ref)}
        return Message(_encode(body), properties, str(self.frame.id), JSON, UTF8)


@lru_cache(maxsize=4)  # the same model answers frame after frame
def _model_body(ref: ModelRef, weights: str) -> dict[str, Any]:
    return {**ref.reported(), "weights": weights}


def prediction_messages(
    predictions: Sequence[Prediction], publish_times: Sequence[PublishTime], instance: str
) -> list[tuple[Message, Sequence[Prediction]]]:
    """Return the messages for the predictions of one arrival, each with the predictions in it.

    One message if they fit, else several; a single prediction has the format without a batch. The first
    message carries `publish_times`.
    """
    first = predictions[0]
    if len(predictions) == 1:
        return [(first.to_message(publish_times, instance), predictions)]
    records = [each.record(instance) for each in predictions]
    body = _encode({"schema": BATCH_SCHEMA, "predictions": records, **publish_times_body(publish_times)})
    if len(body) > MAX_BODY_BYTES:
        half = len(predictions) // 2
        rest = prediction_messages(predictions[half:], (), instance)
        return [*prediction_messages(predictions[:half], publish_times, instance), *rest]
    properties = {"predictions": str(len(predictions))}
    message_id = f"{first.frame.id}+{len(predictions) - 1}"
    return [(Message(body, properties, message_id, JSON, UTF8), predictions)]


def json_message(body: dict[str, Any]) -> Message:
    """Return a JSON message that belongs to no frame."""
    return Message(_encode(body), {}, content_type=JSON, content_encoding=UTF8)


def _encode(body: dict[str, Any]) -> bytes:
    return to_json(body, inf_nan_mode="null")  # takes a quarter of the time of json.dumps


def record_bytes(prediction: Prediction, instance: str) -> tuple[int, int]:
    """Return the bytes of the record, and those of the properties that the message has if it is alone."""
    properties = {**prediction.answer.properties(), "model": str(prediction.ref)}
    return len(_encode(prediction.record(instance))), _text_bytes(*properties.keys(), *properties.values())


def counted_bytes(message: Message) -> int:
    """Return the size of a message as IoT Hub counts it: body, names and values, system properties' values.

    Source: learn.microsoft.com/azure/iot-hub/iot-hub-devguide-messages-construct.
    """
    system = (message.message_id, message.content_type, message.content_encoding)
    properties = message.properties
    return len(message.body) + _text_bytes(*properties.keys(), *properties.values(), *system)


def _text_bytes(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts)
