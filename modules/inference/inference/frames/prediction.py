"""An answer: from the model's numbers to the message that goes upstream, and whether it goes at all.

Pure. What ran the model is `frame_path`'s, what the message's times mean is `ledger`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from edgekit.frame.message import MAX_BODY_BYTES, Frame, Message
from inference.artefact import Manifest
from inference.frames.ledger import Published, StageTimes, before_body, frame_body
from inference.model_section import ModelRef

SCHEMA: Final = "twinship.prediction.v1"
BATCH_SCHEMA: Final = "twinship.predictions.v1"
JSON: Final = "application/json"
UTF8: Final = "utf-8"
REMEMBERED_CAMERAS: Final = 64

Predictions = Literal["all", "changes", "none"]


@dataclass(slots=True)
class Scored:
    """A label and how sure the model is of it, 0 to 1."""

    label: str
    confidence: float


def best(scores: NDArray[np.float32], labels: Sequence[str], top_k: int) -> tuple[Scored, ...]:
    """The top_k labels, surest first; among equals the model's own order."""
    values: list[float] = scores.tolist()  # plain floats: numpy takes longer over so few
    order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:top_k]
    # Six digits are as many as a float32 has: 0.9 and not 0.8999999761581421.
    return tuple([Scored(labels[place], round(values[place], 6)) for place in order])


@dataclass(slots=True)
class Prediction:
    """One frame's answer. `top` holds at least one label, surest first."""

    frame: Frame
    ref: ModelRef
    manifest: Manifest
    top: tuple[Scored, ...]
    uncertain: bool  # the surest is below the threshold

    @property
    def label(self) -> str:
        """The answer in one word: "" when uncertain."""
        return "" if self.uncertain else self.top[0].label

    def record(self, stage_times: StageTimes, instance: str) -> dict[str, Any]:
        """What there is to say of this frame alone."""
        body: dict[str, Any] = {
            "schema": SCHEMA,
            "instance": instance,
            "frame": frame_body(self.frame.id),
            "captured": self.frame.captured,
            "model": _model_body(self.ref, self.manifest.weightsSha256),
            "top": [{"label": scored.label, "confidence": scored.confidence} for scored in self.top],
            "stages_ms": stage_times.stages_ms(),
            "clock": stage_times.clock,
        }
        if self.uncertain:
            body["uncertain"] = True
        return body

    def to_message(self, stage_times: StageTimes, told: Sequence[Published], instance: str) -> Message:
        """The message for output `predictions`, with the frame's own message id."""
        body = self.record(stage_times, instance)
        body.update(before_body(told))
        properties = {
            "label": self.label,
            "confidence": str(self.top[0].confidence),
            "model": str(self.ref),
        }
        return Message(_encode(body), properties, str(self.frame.id), JSON, UTF8)


@lru_cache(maxsize=4)  # frame after frame is answered by the same model
def _model_body(ref: ModelRef, weights: str) -> dict[str, Any]:
    return {**ref.reported(), "weights": weights}


@dataclass(slots=True)
class Answer:
    """A prediction and the way to it."""

    prediction: Prediction
    stage_times: StageTimes


def batch_messages(
    answers: Sequence[Answer], told: Sequence[Published], instance: str
) -> list[tuple[Message, Sequence[Answer]]]:
    """The messages for the answers to one batch, one where they fit; an answer that is alone stands alone.

    `told` is in the first one, with the frames that it names there.
    """
    first = answers[0]
    if len(answers) == 1:
        return [(first.prediction.to_message(first.stage_times, told, instance), answers)]
    records = [each.prediction.record(each.stage_times, instance) for each in answers]
    body = _encode({"schema": BATCH_SCHEMA, "predictions": records, **before_body(told)})
    if len(body) > MAX_BODY_BYTES:
        half = len(answers) // 2
        rest = batch_messages(answers[half:], (), instance)
        return [*batch_messages(answers[:half], told, instance), *rest]
    properties = {"predictions": str(len(answers))}
    message_id = f"{first.prediction.frame.id}+{len(answers) - 1}"
    return [(Message(body, properties, message_id, JSON, UTF8), answers)]


def json_message(body: dict[str, Any]) -> Message:
    """A message for people and programs upstream that belongs to no frame."""
    return Message(_encode(body), {}, content_type=JSON, content_encoding=UTF8)


def _encode(body: dict[str, Any]) -> bytes:
    return to_json(body, inf_nan_mode="null")  # a quarter of the time that json takes


class ChangeFilter:
    """What was last said of each camera: decides whether the next answer is news."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, tuple[str, str]] = OrderedDict()  # camera → (label, model's sha256)

    def wanted(self, mode: Predictions, predictions: Sequence[Prediction]) -> list[bool]:
        """Which of these answers, all of one camera and at least one, are to be sent."""
        if mode != "changes":
            return [mode == "all"] * len(predictions)
        news = [_news(each) for each in predictions]
        before = [self._last.get(predictions[0].frame.id.camera), *news]
        return [now != last for now, last in zip(news, before, strict=False)]

    def sent(self, prediction: Prediction) -> None:
        """This answer is on its way; one that had to be dropped stays news."""
        camera = prediction.frame.id.camera
        self._last[camera] = _news(prediction)
        self._last.move_to_end(camera)
        if len(self._last) > REMEMBERED_CAMERAS:
            self._last.popitem(last=False)


def _news(prediction: Prediction) -> tuple[str, str]:
    return prediction.label, prediction.ref.sha256
