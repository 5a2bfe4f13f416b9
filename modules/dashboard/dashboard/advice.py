"""Says in words what is wrong, and what to do about it.

>>> facts = Facts(connected=True, up_s=60, answer_age_s=None, latency_age_s=None)
>>> for note in advise(facts):
...     print(note.text)
Nothing has arrived in the 60 s since this page's module started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

SILENT_S: Final = 5.0
_LATE: Final = 2.5  # windows without a latency message


@dataclass(frozen=True)
class Facts:
    """What the advice depends on. Ages are None if nothing of the kind has arrived."""

    connected: bool
    up_s: float
    answer_age_s: float | None
    latency_age_s: float | None
    window_s: float = 0.0
    closing: bool = False  # the last latency message is the last one of its process
    grown: Mapping[str, int] = field(default_factory=dict)  # counters of the last window
    unreadable: int = 0
    reason: str = ""  # why the last message could not be read

    @property
    def silent_s(self) -> float | None:
        """Seconds without an answer, or None while answers arrive."""
        age_s = self.up_s if self.answer_age_s is None else self.answer_age_s
        return age_s if age_s >= SILENT_S else None

    @property
    def window_is_fresh(self) -> bool:
        """Whether the last latency message describes the present."""
        limit_s = max(SILENT_S, _LATE * self.window_s)
        return self.latency_age_s is not None and self.latency_age_s < limit_s and not self.closing


@dataclass(frozen=True)
class Note:
    """One sentence about the state, and one about what to do."""

    level: str  # error, warning or info
    text: str
    cure: str

    def body(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


#: Why frames were dropped in the last window: the reason of inference, its meaning, what to do.
DROPS: Final[Mapping[str, tuple[str, str]]] = {
    "no_model": (
        "because inference has no model",
        "Publish one: twinship publish MODEL.tflite.",
    ),
    "overload": (
        "because frames arrive faster than the model answers",
        "Lower camera.fps, publish a smaller model, or raise inference.latencyBudgetMs.",
    ),
    "bad_frame": (
        "because they are no frames, or not the pictures that they declare",
        "Check that only a camera module sends to inference's input frames.",
    ),
    "engine": (
        "because the model raised an error",
        "Read inference's log; twinship rollback returns to the model before.",
    ),
    "outbox": (
        "because edgeHub does not accept predictions fast enough",
        "Check edgeHub and its disk; telemetry.predictions: changes sends less.",
    ),
    "lost_in_restart": (
        "because inference ended while it had them in hand",
        "Read inference's log from before the restart.",
    ),
}


def advise(facts: Facts) -> list[Note]:
    """Return the notes, the most important first; none if all is well."""
    if not facts.connected:
        return [
            Note(
                "error",
                "The dashboard has no connection to edgeHub.",
                "Check that edgeHub (or the simulator) runs. The dashboard connects again by itself.",
            )
        ]
    return [*_silence(facts), *_drops(facts), *_unreadable(facts)]


def _silence(facts: Facts) -> Iterator[Note]:
    if facts.silent_s is None or facts.grown.get("no_model"):
        return
    yield next(make(facts) for holds, make in _SILENCES if holds(facts))


_SILENCES: Final[tuple[tuple[Callable[[Facts], bool], Callable[[Facts], Note]], ...]] = (
    (
        lambda facts: facts.closing,
        lambda facts: Note(
            "warning",
            f"Inference has ended. The last answer is {_ago(facts)}.",
            "edgeAgent starts it again; twinship status says why it ended.",
        ),
    ),
    (
        lambda facts: facts.window_is_fresh and facts.grown.get("suppressed", 0) > 0,
        lambda facts: Note(
            "info",
            f"Inference works; its answer has been the same for {facts.silent_s:.0f} s.",
            "telemetry.predictions in the twin: changes sends an answer only if it differs, all sends each.",
        ),
    ),
    (
        lambda facts: facts.answer_age_s is None and facts.latency_age_s is None,
        lambda facts: Note(
            "warning",
            f"Nothing has arrived in the {facts.up_s:.0f} s since this page's module started.",
            "Check that inference and camera run (twinship status), and that the manifest routes inference's "
            "outputs predictions and latency to this module.",
        ),
    ),
    (
        lambda facts: facts.answer_age_s is None,
        lambda facts: Note(
            "warning",
            "Inference reports, but no answer has arrived.",
            "Check the manifest's route from inference's output predictions to this module, "
            "and that telemetry.predictions is not none.",
        ),
    ),
    (
        lambda facts: True,
        lambda facts: Note(
            "warning",
            f"No answer has arrived for {facts.silent_s:.0f} s.",
            "Check that the camera is not paused, has frames left (camera.frames) and still has its source: "
            "twinship status.",
        ),
    ),
)


def _ago(facts: Facts) -> str:
    return "not known" if facts.answer_age_s is None else f"{facts.answer_age_s:.0f} s old"


def _drops(facts: Facts) -> Iterator[Note]:
    if not facts.window_is_fresh:
        return
    for reason, (meaning, cure) in DROPS.items():
        if (frames := facts.grown.get(reason, 0)) > 0:
            count = "1 frame was" if frames == 1 else f"{frames} frames were"
            yield Note("warning", f"{count} dropped in the last {facts.window_s:.0f} s {meaning}.", cure)


def _unreadable(facts: Facts) -> Iterator[Note]:
    if facts.unreadable:
        yield Note(
            "warning",
            f"Messages that could not be read: {facts.unreadable}. The last one: {facts.reason}",
            "Route only the outputs that docs/dashboard.md names to this module.",
        )
