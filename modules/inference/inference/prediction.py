"""An answer: from the model's numbers to the message that goes upstream, and whether it goes at all.

Pure. What ran the model is `frame_path`'s, what the message's times mean is `ledger`'s.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.frame import Frame, Message
from inference.artefact import Manifest
from inference.ledger import Published, Walk, before_body, frame_body
from inference.wish import ModelRef

SCHEMA: Final = "twinship.prediction.v1"
JSON: Final = "application/json"
UTF8: Final = "utf-8"
REMEMBERED_CAMERAS: Final = 64

Predictions = Literal["all", "changes", "none"]

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Scored:
    """A label and how sure the model is of it, 0 to 1."""

    label: str
    confidence: float


def best(scores: NDArray[np.float32], labels: Sequence[str], top_k: int) -> tuple[Scored, ...]:
    """The top_k labels, surest first; among equals the model's own order."""
    order = np.argsort(-scores, kind="stable")[:top_k].tolist()
    # Six digits are as many as a float32 has: 0.9 and not 0.8999999761581421.
    return tuple(Scored(labels[place], round(float(scores[place]), 6)) for place in order)


@dataclass(frozen=True, slots=True)
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

    def to_message(self, walk: Walk, told: Sequence[Published], instance: str) -> Message:
        """The message for output `predictions`, with the frame's own message id."""
        body = {
            "schema": SCHEMA,
            "instance": instance,
            "frame": frame_body(self.frame.id),
            "captured": self.frame.captured,
            "model": {**self.ref.reported(), "weights": self.manifest.weightsSha256},
            "top": [{"label": scored.label, "confidence": scored.confidence} for scored in self.top],
            **({"uncertain": True} if self.uncertain else {}),
            "stages_ms": walk.stages_ms(),
            "clock": walk.clock,
            **before_body(told),
        }
        properties = {
            "label": self.label,
            "confidence": str(self.top[0].confidence),
            "model": str(self.ref),
        }
        return Message(_encode(body).encode(), properties, str(self.frame.id), JSON, UTF8)


def json_message(body: dict[str, Any]) -> Message:
    """A message for people and programs upstream that belongs to no frame."""
    return Message(_encode(body).encode(), {}, content_type=JSON, content_encoding=UTF8)


class Told:
    """What was last said of each camera: decides whether the next answer is news."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, tuple[str, str]] = OrderedDict()  # camera → (label, model's sha256)

    def wants(self, mode: Predictions, prediction: Prediction) -> bool:
        """Whether this answer is to be sent."""
        if mode == "changes":
            return self._last.get(prediction.frame.id.camera) != _news(prediction)
        return mode == "all"

    def sent(self, prediction: Prediction) -> None:
        """This answer is on its way; one that had to be dropped stays news."""
        camera = prediction.frame.id.camera
        self._last[camera] = _news(prediction)
        self._last.move_to_end(camera)
        if len(self._last) > REMEMBERED_CAMERAS:
            self._last.popitem(last=False)


def _news(prediction: Prediction) -> tuple[str, str]:
    return prediction.label, prediction.ref.sha256
