"""Counts the outcome of every frame: each received frame gets exactly one outcome.

This is the only place that counts frames. The latency message, the twin, the `status` method and the
Prometheus metrics all read these counters.

>>> outcomes = Outcomes()
>>> outcomes.receive(3)
>>> outcomes.add(Outcome.ANSWERED, frames=2)
>>> outcomes.add(Outcome.OVERLOAD)
>>> outcomes.finished
3
>>> body = outcomes.body()
>>> body["answered"], body["dropped"]["overload"]
(2, 1)
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from enum import StrEnum
from typing import Any, Final


class Outcome(StrEnum):
    """The outcome of one frame."""

    ANSWERED = "answered"  # the hub's outbox has its prediction
    OFF = "off"  # predicted, not sent: telemetry.predictions is none
    UNCHANGED = "unchanged"  # predicted, not sent: the camera's last answer was the same
    CERTAIN = "certain"  # predicted, not sent: telemetry.predictions is uncertain
    BUDGET = "budget"  # predicted, not sent: telemetry.maxPerDay leaves no room for it
    REPEAT = "repeats"  # the hub delivered it again; its first delivery has its own outcome
    OVERLOAD = "overload"  # frames arrive faster than the model answers them
    BAD_FRAME = "bad_frame"  # not a frame, or not the picture that it declares
    NO_MODEL = "no_model"
    OUTBOX = "outbox"  # predicted; the hub is unreachable and its outbox is full
    ENGINE = "engine"  # the model raised an error, and so did its predecessor, if there is one
    STOPPED = "stopped"  # still in the queue when the module had to stop
    LOST_IN_RESTART = "lost_in_restart"  # a process that has ended had it in hand; not delivered again

    __hash__ = str.__hash__  # the one of Enum is written in Python, and every frame needs it


DROPS: Final = (
    Outcome.OVERLOAD,
    Outcome.BAD_FRAME,
    Outcome.NO_MODEL,
    Outcome.OUTBOX,
    Outcome.ENGINE,
    Outcome.STOPPED,
    Outcome.LOST_IN_RESTART,
)

SUPPRESSED: Final = (Outcome.OFF, Outcome.UNCHANGED, Outcome.CERTAIN, Outcome.BUDGET)

#: The order of the numbers that `Outcomes` counts in.
COUNTERS: Final = ("received", "bad_clock", *(outcome.value for outcome in Outcome))
_AT: Final = {outcome: COUNTERS.index(outcome.value) for outcome in Outcome}
_RECEIVED, _BAD_CLOCK = 0, 1


class Outcomes:
    """Counters since the process started: received = the sum of all outcomes + frames without one yet."""

    def __init__(self, counters: MutableSequence[int] | memoryview | None = None) -> None:
        """`counters` holds the numbers, in the order of COUNTERS; without it they end with this object."""
        self._counters: MutableSequence[int] | memoryview = (
            [0] * len(COUNTERS) if counters is None else counters
        )

    @property
    def received(self) -> int:
        """Number of frames received."""
        return self._counters[_RECEIVED]

    @property
    def finished(self) -> int:
        """Number of frames that have an outcome."""
        return sum(self._counters[_BAD_CLOCK + 1 :])

    def receive(self, frames: int = 1) -> None:
        """Count received frames."""
        self._counters[_RECEIVED] += frames

    def add(self, outcome: Outcome, frames: int = 1) -> None:
        """Count this outcome for this number of frames."""
        self._counters[_AT[outcome]] += frames

    def add_bad_clocks(self, frames: int) -> None:
        """Count frames whose timestamps are not plausible; each has an outcome besides."""
        self._counters[_BAD_CLOCK] += frames

    def body(self) -> dict[str, Any]:
        """Return the counters as the latency message, the twin and the `status` method carry them."""
        return counters_body(self._counters)


def counters_body(counters: Sequence[int] | memoryview) -> dict[str, Any]:
    """Return numbers in the order of COUNTERS as JSON object. `suppressed` is the sum of `suppressedBy`."""
    counts = {outcome: counters[at] for outcome, at in _AT.items()}
    suppressed_by = {outcome.value: counts[outcome] for outcome in SUPPRESSED}
    return {
        "answered": counts[Outcome.ANSWERED],
        "suppressed": sum(suppressed_by.values()),
        "repeats": counts[Outcome.REPEAT],
        "bad_clock": counters[_BAD_CLOCK],
        "suppressedBy": suppressed_by,
        "dropped": {outcome.value: counts[outcome] for outcome in DROPS},
    }
