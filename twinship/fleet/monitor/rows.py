"""What `twinship monitor` prints of a message: filters, a flat row, one line, and the rate.

>>> rate = Rate()
>>> rate.add(2.0)
>>> rate.add(8.0)
>>> rate.line(10.0)
'0.2 predictions/s in 10 s, 2 in all; capture to answer p50 2.0 ms, p99 8.0 ms'
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinship.fleet.monitor.messages import Event, Latency, Prediction, UpstreamMessage

_OF_FRAME = ("camera", "run", "seq", "label", "confidence", "uncertain", "model", "captured")
#: A JSON line of a prediction has these fields, and `kind` and `stages_ms`.
CSV_COLUMNS = ("enqueued", "device", "module", *_OF_FRAME, "total_ms")
_FORMAT = "{:<24}  {:<20}  {:<12}  {:>8}  {:<16}  {:>10}  {:<20}  {:>9}"
HEADER = _FORMAT.format(
    "time", "device/module", "camera", "seq", "label", "confidence", "model", "ms"
).rstrip()


@dataclass(frozen=True)
class Filter:
    """Which messages are shown. With a label or a confidence: predictions only."""

    devices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    min_confidence: float = 0.0
    max_confidence: float = 1.0

    def passes(self, message: UpstreamMessage) -> bool:
        """True if the message is shown. A confidence that is no number passes no limit."""
        if self.devices and message.source.device not in self.devices:
            return False
        limited = (self.min_confidence, self.max_confidence) != (0.0, 1.0)
        if not isinstance(message, Prediction):
            return not (self.labels or limited)
        if self.labels and message.labels.isdisjoint(self.labels):
            return False
        return not limited or self.min_confidence <= message.confidence <= self.max_confidence


class Rate:
    """Counts predictions and their latency (ms, the sum of their stages) between two lines."""

    def __init__(self) -> None:
        self.total = 0
        self._ms: list[float] = []

    def add(self, ms: float) -> None:
        """Count one prediction."""
        self.total += 1
        if math.isfinite(ms):
            self._ms.append(ms)

    def line(self, seconds: float) -> str | None:
        """The figures since the previous line, so many seconds ago; None without predictions."""
        found, self._ms = sorted(self._ms), []
        if not found:
            return None
        return (
            f"{len(found) / max(seconds, 1e-3):.1f} predictions/s in {seconds:.0f} s, {self.total} in all; "
            f"capture to answer p50 {_percentile(found, 50):.1f} ms, p99 {_percentile(found, 99):.1f} ms"
        )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """By nearest rank: the smallest value that so many percent of the values do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def row(message: UpstreamMessage) -> dict[str, Any]:
    """The message as one flat object; its field `kind` is prediction, latency, event or other."""
    source = {
        "enqueued": message.source.enqueued,
        "device": message.source.device,
        "module": message.source.module,
    }
    match message:
        case Prediction():
            own = {name: getattr(message, name) for name in _OF_FRAME}
            found = {} if message.detections is None else {"detections": list(map(vars, message.detections))}
            times = {"total_ms": total_ms(message), "stages_ms": dict(message.stages_ms)}
            return {"kind": "prediction", **source, **own, **found, **times}
        case Latency():
            own = {name: value for name, value in vars(message).items() if name != "source"}
            return {"kind": "latency", **source, **own}
        case Event():
            own = {name: value for name, value in vars(message).items() if name != "source"}
            return {"kind": "event", **source, **own}
        case _:
            return {"kind": "other", **source, "body": message.body}


def total_ms(prediction: Prediction) -> float:
    """From the capture of the frame to its answer: the sum of the stages."""
    return sum(prediction.stages_ms.values())


def table_line(message: UpstreamMessage) -> str:
    """The message as one line of the table under HEADER."""
    source, name = message.source, f"{message.source.device}/{message.source.module}"
    match message:
        case Prediction():
            label = f"{message.label or 'nothing'}{'?' if message.uncertain else ''}"
            return _FORMAT.format(
                source.enqueued,
                name,
                message.camera,
                message.seq,
                label,
                f"{message.confidence:.1%}",
                message.model,
                f"{total_ms(message):.1f}",
            )
        case Latency():
            return f"{source.enqueued:<24}  {name:<20}  {_latency_text(message)}"
        case Event():
            return f"{source.enqueued:<24}  {name:<20}  {_event_text(message)}"
        case _:
            return (
                f"{source.enqueued:<24}  {name:<20}  {len(str(message.body))} characters of an unknown schema"
            )


def _event_text(message: Event) -> str:
    what = f"{message.event} {message.subject}".rstrip()
    return f"{what}: {message.state}{f' ({message.reason})' if message.reason else ''}"


def _latency_text(message: Latency) -> str:
    total: Mapping[str, float] = message.stages_ms.get("total", {})
    drops = ", ".join(f"{count} {reason}" for reason, count in message.dropped.items() if count)
    return (
        f"{message.frames} frames in {message.window_s:.0f} s: total p50 {total.get('p50', 0.0):.1f} ms, "
        f"p99 {total.get('p99', 0.0):.1f} ms, dropped: {drops or 'none'}, repeats: {message.repeats}"
    )
