"""Follows the messages that devices send upstream: reads the simulator's upstream.jsonl while it grows.

>>> message = parse(
...     '{"SystemProperties": {"connectionDeviceId": "porch"}, "EnqueuedTimeUtc": "2026-11-23T06:30:00Z", '
...     '"Body": {"temperature": 21}}'
... )
>>> message.source.device, message.body
('porch', {'temperature': 21})
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from threading import Event
from typing import Any

POLL_S = 0.2  # a person perceives this delay as immediate
MAX_LINE_BYTES = 1_048_576  # a message is at most 256 KiB, 342 KiB as base64; its envelope is small
_CHUNK_BYTES = 65_536


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
class Other:
    """A message of an unknown schema."""

    source: Source
    body: Any = field(repr=False)


@dataclass(frozen=True)
class Batch:
    """The predictions for the frames of one message (schema `twinship.predictions.v1`)."""

    predictions: tuple[Prediction, ...]


UpstreamMessage = Prediction | Latency | Other


class BadLine(ValueError):
    """The line is not a message in IoT Hub's storage format, or does not match its schema."""


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
        body = envelope["Body"]
        schema = str(body.get("schema")) if isinstance(body, dict) else ""
        return _SCHEMAS[schema](source, body) if schema in _SCHEMAS else Other(source, body)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise BadLine(f"not a message: {type(error).__name__}") from error


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
}


class Follower:
    """Yields the messages of a growing file, as `tail -F`, until `stop` is set.

    A batch yields its single predictions. Waits until the file exists; starts again if it was truncated or
    replaced; waits for the rest of an incomplete line; skips bad lines and counts them in `skipped`.
    """

    def __init__(self, path: Path, *, stop: Event, from_start: bool = False, poll_s: float = POLL_S) -> None:
        self.skipped = 0
        self._path = path
        self._stop = stop
        self._from_start = from_start
        self._poll_s = poll_s

    def __iter__(self) -> Iterator[UpstreamMessage]:
        for line in self._lines():
            try:
                message = parse(line)
            except BadLine:
                self.skipped += 1
                continue
            if isinstance(message, Batch):
                yield from message.predictions
            else:
                yield message

    def _lines(self) -> Iterator[bytes]:
        # Only a file that exists at the start may contain old messages.
        skip_old = not self._from_start and self._path.exists()
        while (file := self._opened()) is not None:
            with file:
                if skip_old:
                    file.seek(0, os.SEEK_END)
                    skip_old = False
                yield from self._lines_of(file)

    def _opened(self) -> BufferedReader | None:
        """Wait for the file and open it; None if `stop` is set."""
        while not self._stop.is_set():
            try:
                return self._path.open("rb")
            except FileNotFoundError:
                self._stop.wait(self._poll_s)
        return None

    def _lines_of(self, file: BufferedReader) -> Iterator[bytes]:
        """The complete lines of one open file, until it is replaced or truncated, or `stop` is set."""
        rest, overlong = b"", False
        while True:
            # Checked before reading, so that a replaced file is still read to its end.
            replaced = self._was_replaced(file)
            ended = replaced or self._stop.is_set()
            while chunk := file.read(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if overlong and lines:
                    lines, overlong = lines[1:], False
                    self.skipped += 1
                yield from (line for line in lines if line.strip())
                if len(rest) > MAX_LINE_BYTES:
                    rest, overlong = b"", True
            if ended:
                self.skipped += replaced and bool(rest.strip())
                return
            self._stop.wait(self._poll_s)

    def _was_replaced(self, file: BufferedReader) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return True
        opened = os.fstat(file.fileno())
        return (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino) or opened.st_size < file.tell()
