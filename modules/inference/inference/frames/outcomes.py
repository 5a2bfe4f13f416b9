"""What became of every frame: each one that came in ends in exactly one of these counters.

Pure, and the only place that counts frames; messages, twin, method and metrics all read it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a frame ends."""

    ANSWERED = "answered"  # its prediction is in the hub's outbox
    SUPPRESSED = "suppressed"  # inferred; telemetry.predictions asks for no message
    REPEAT = "repeats"  # was here before, and is settled there
    OVERLOAD = "overload"  # came faster than it could be answered
    BAD_FRAME = "bad_frame"  # not a frame, or not the picture it says
    NO_MODEL = "no_model"
    OUTBOX = "outbox"  # inferred; the hub is away and its outbox full
    ENGINE = "engine"  # the model threw, and so did the one before it or there was none
    STOPPED = "stopped"  # still waiting when the module had to end

    __hash__ = str.__hash__  # Enum's own is written in Python, and each frame is counted by it


DROPS = (
    Outcome.OVERLOAD,
    Outcome.BAD_FRAME,
    Outcome.NO_MODEL,
    Outcome.OUTBOX,
    Outcome.ENGINE,
    Outcome.STOPPED,
)


class Outcomes:
    """Counters since this process began. received = the sum of all outcomes + frames that still wait."""

    def __init__(self) -> None:
        self.received = 0
        self._ended = dict.fromkeys(Outcome, 0)

    def __getitem__(self, outcome: Outcome) -> int:
        return self._ended[outcome]

    @property
    def ended(self) -> int:
        """Frames that have an outcome."""
        return sum(self._ended.values())

    def end(self, outcome: Outcome, frames: int = 1) -> None:
        """So many frames more have this outcome."""
        self._ended[outcome] += frames

    def body(self) -> dict[str, Any]:
        """As the latency message, the twin and the method carry it."""
        done = {
            outcome.value: self[outcome] for outcome in (Outcome.ANSWERED, Outcome.SUPPRESSED, Outcome.REPEAT)
        }
        return {**done, "dropped": {outcome.value: self[outcome] for outcome in DROPS}}
