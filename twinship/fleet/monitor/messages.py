"""The messages that Twinship's modules send upstream, parsed.

>>> message = parse(
...     '{"SystemProperties": {"connectionDeviceId": "porch"}, "EnqueuedTimeUtc": "2026-11-23T06:30:00Z", '
...     '"Body": {"temperature": 21}}'
... )
>>> message.source.device, message.body
('porch', {'temperature': 21})
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Source:
    """The sender of a message, and the time when IoT Hub accepted it."""

    device: str
    module: str
    enqueued: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Detection:
    """An object; the box is left, top, width, height in shares of the picture."""

    label: str
    confidence: float
    box: Mapping[str, float]


@dataclass(frozen=True)
class Prediction:
    """The prediction for one frame (schemas `twinship.prediction.v1` and `twinship.detection.v1`)."""

    source: Source
    camera: str
    run: str
    seq: int
    label: str  # the most probable label, also if it is uncertain; of a detector "2 car, 1 person", or ""
    confidence: float  # the highest; 0 without a detection
    uncertain: bool  # below the module's confidenceThreshold
    model: str  # name:version
    captured: int  # ns since the epoch
    stages_ms: Mapping[str, float]
    detections: tuple[Detection, ...] | None = None  # None: a classifier answered

    @property
    def labels(self) -> set[str]:
        """The label of a classifier, or those of the detections."""
        return {self.label} if self.detections is None else {each.label for each in self.detections}


@dataclass(frozen=True)
class Latency:
    """The latency of one window of an inference process (schema `twinship.latency.v1`)."""

    source: Source
    window_s: float
    frames: int
    stages_ms: Mapping[str, Mapping[str, float]]
    dropped: Mapping[str, int]  # reason → count since the process started; repeats too
    repeats: int
    closing: bool


@dataclass(frozen=True)
class Event:
    """A change in a module (schema `twinship.event.v1`)."""

    source: Source
    event: str  # model, camera, drift or another kind
    state: str
    subject: str  # the model's name:version, or the camera; "" if the event names none
    reason: str  # "" if it has none
    repeated: bool


@dataclass(frozen=True)
class Other:
    """A message of an unknown schema."""

    source: Source
    body: Any = field(repr=False)


@dataclass(frozen=True)
class Batch:
    """The predictions for the frames of one message (schema `twinship.predictions.v1`)."""

    predictions: tuple[Prediction, ...]


UpstreamMessage = Prediction | Latency | Event | Other


class BadLine(ValueError):
    """The bytes are not a message in the expected format, or do not match their schema."""


_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def parse(line: str | bytes) -> UpstreamMessage | Batch:
    """Parse a line of upstream.jsonl: one JSON object in IoT Hub's storage format. Raises BadLine."""
    try:
        envelope = json.loads(line)
        system = envelope["SystemProperties"]
        source = Source(
            str(system["connectionDeviceId"]),
            str(system.get("connectionModuleId", "")),
            str(envelope.get("EnqueuedTimeUtc", "")),
        )
        return _of(source, envelope["Body"])
    except _MALFORMED as error:
        raise BadLine(f"not a message: {type(error).__name__}") from error


def parse_body(source: Source, body: bytes) -> UpstreamMessage | Batch:
    """Parse the body of a message, JSON of a known schema or any other. Raises BadLine."""
    try:
        return _of(source, json.loads(body))
    except _MALFORMED as error:
        raise BadLine(f"not a message: {type(error).__name__}") from error


def _of(source: Source, body: Any) -> UpstreamMessage | Batch:
    schema = str(body.get("schema")) if isinstance(body, dict) else ""
    return _SCHEMAS[schema](source, body) if schema in _SCHEMAS else Other(source, body)


def _detection(source: Source, body: Mapping[str, Any]) -> Prediction:
    found = tuple(
        Detection(str(each["label"]), float(each["confidence"]), _numbers(each["box"]))
        for each in body["detections"]
    )
    counted = sorted(Counter(each.label for each in found).items())
    best = {
        "label": ", ".join(f"{count} {label}" for label, count in counted),
        "confidence": max((each.confidence for each in found), default=0.0),
    }
    return replace(_prediction(source, {**body, "top": [best]}), detections=found)


def _prediction(source: Source, body: Mapping[str, Any]) -> Prediction:
    frame, model, best = body["frame"], body["model"], body["top"][0]
    return Prediction(
        source,
        camera=str(frame["camera"]),
        run=str(frame["run"]),
        seq=int(frame["seq"]),
        label=str(best["label"]),
        confidence=float(best["confidence"]),
        uncertain=bool(body.get("uncertain", False)),
        model=f"{model['name']}:{model['version']}",
        captured=int(body["captured"]),
        stages_ms=_numbers(body["stages_ms"]),
    )


def _latency(source: Source, body: Mapping[str, Any]) -> Latency:
    return Latency(
        source,
        window_s=float(body["window_s"]),
        frames=int(body["frames"]),
        stages_ms={name: _numbers(figures) for name, figures in body["stages_ms"].items()},
        dropped={name: int(count) for name, count in body["dropped"].items()},
        repeats=int(body["repeats"]),
        closing=bool(body.get("closing", False)),
    )


def _event(source: Source, body: Mapping[str, Any]) -> Event:
    name, reason = body.get("name"), body.get("reason")
    if isinstance(reason, Mapping):
        reason = f"{reason['code']}: {reason['message']}"
    subject = body.get("camera") if name is None else f"{name}:{body.get('version')}"
    return Event(
        source,
        event=str(body["kind"]),
        state=str(body.get("state", "")),
        subject=str(subject or ""),
        reason=str(reason or ""),
        repeated=bool(body.get("repeated", False)),
    )


def _numbers(table: Mapping[str, Any]) -> dict[str, float]:
    # A stage without frames in this window has no percentiles.
    return {name: float(value) for name, value in table.items() if value is not None}


def _batch(source: Source, body: Mapping[str, Any]) -> Batch:
    return Batch(tuple(_ANSWERS[record["schema"]](source, record) for record in body["predictions"]))


_ANSWERS: dict[str, Callable[[Source, Mapping[str, Any]], Prediction]] = {
    "twinship.prediction.v1": _prediction,
    "twinship.detection.v1": _detection,
}
_SCHEMAS: dict[str, Callable[[Source, Mapping[str, Any]], UpstreamMessage | Batch]] = {
    **_ANSWERS,
    "twinship.predictions.v1": _batch,
    "twinship.latency.v1": _latency,
    "twinship.event.v1": _event,
}
