"""Counts the outcome of every frame: each received frame gets exactly one outcome.

This is the only place that counts frames. The latency message, the twin, the `status` method and the
Prometheus metrics all read these counters.

>>> outcomes = Outcomes()
>>> outcomes.received += 3
>>> outcomes.add(Outcome.ANSWERED, frames=2)
>>> outcomes.add(Outcome.OVERLOAD)
>>> outcomes.finished
3
>>> body = outcomes.body()
>>> body["answered"], body["dropped"]["overload"]
(2, 1)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The outcome of one frame."""

    ANSWERED = "answered"  # the hub's outbox has its prediction
    SUPPRESSED = "suppressed"  # predicted; the twin's telemetry.predictions wants no message
    REPEAT = "repeats"  # the hub delivered it again; its first delivery has its own outcome
    OVERLOAD = "overload"  # frames arrive faster than the model answers them
    BAD_FRAME = "bad_frame"  # not a frame, or not the picture that it declares
    NO_MODEL = "no_model"
    OUTBOX = "outbox"  # predicted; the hub is unreachable and its outbox is full
    ENGINE = "engine"  # the model raised an error, and so did its predecessor, if there is one
    STOPPED = "stopped"  # still in the queue when the module had to stop

    __hash__ = str.__hash__  # the one of Enum is written in Python, and every frame needs it


DROPS = (
    Outcome.OVERLOAD,
    Outcome.BAD_FRAME,
    Outcome.NO_MODEL,
    Outcome.OUTBOX,
    Outcome.ENGINE,
    Outcome.STOPPED,
)


class Outcomes:
    """Counters since the process started: received = the sum of all outcomes + frames without one yet."""

    def __init__(self) -> None:
        self.received = 0
        self._counts = dict.fromkeys(Outcome, 0)

    @property
    def finished(self) -> int:
        """Number of frames that have an outcome."""
        return sum(self._counts.values())

    def add(self, outcome: Outcome, frames: int = 1) -> None:
        """Count this outcome for this number of frames."""
        self._counts[outcome] += frames

    def body(self) -> dict[str, Any]:
        """Return the counters as the latency message, the twin and the `status` method carry them."""
        counts = {outcome.value: count for outcome, count in self._counts.items() if outcome not in DROPS}
        return {**counts, "dropped": {outcome.value: self._counts[outcome] for outcome in DROPS}}
