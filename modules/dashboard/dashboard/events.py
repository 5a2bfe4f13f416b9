"""The model's time line, the state of the camera and drift: what the `events` of the modules say.

Events come at least once, and the last one of each kind every ten seconds, so that a page that starts later
knows the present state. The time of a change is the sender's wall clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dashboard.advice import Note
from dashboard.messages import Event, Reason

CHANGES: Final = 30  # of the model on the time line
KINDS: Final = frozenset({"model", "camera", "drift"})
SILENT_S: Final = 25.0  # two repeats that did not come

#: In words: what the state of the model means for the model that the event names, and how bad it is.
MODEL_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "starting": ("inference starts", "info"),
    "empty": ("no model yet", "info"),
    "unassigned": ("the twin names no model; what runs goes on", "info"),
    "checking": ("offered: it is downloaded and checked", "info"),
    "proving": ("checked: size, signature and digest are right; it is tried in a process of its own", "info"),
    "loading": ("proved; it is being loaded", "info"),
    "probation": ("in use, on probation", "good"),
    "active": ("in use", "good"),
    "refused": ("refused", "error"),
    "withdrawn": ("withdrawn", "error"),
    "unavailable": ("cannot be had now; it is tried again", "warning"),
}
ROLLED_BACK: Final = ("rolled back", "warning")
#: What to do about a state of the model.
_MODEL_CURES: Final = {
    "refused": "What ran before goes on. Correct the model and publish it again: twinship publish.",
    "withdrawn": "The model before it serves again. Publish another one: twinship publish.",
    "unavailable": "Nothing if it is a matter of network or disk: the device tries again by itself.",
}
_CAMERA_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "connecting": ("connecting to its source", "info"),
    "streaming": ("has pictures", "good"),
    "lost": ("has lost its source", "error"),
    "ended": ("is at the end of its video", "info"),
}


class EventLog:
    """The last changes. Not thread-safe."""

    def __init__(self) -> None:
        self._changes: deque[Event] = deque(maxlen=CHANGES)
        self._last: dict[str, tuple[float, Event]] = {}  # by kind: when it was heard, CLOCK_MONOTONIC

    def take(self, event: Event, now_s: float) -> None:
        """Take one event; a kind that the page does not know is ignored."""
        if event.kind not in KINDS:
            return
        known = event in self._changes if event.kind == "model" else False
        if event.kind == "model" and not known:
            self._changes.append(event)
        if not known or event == self._changes[-1]:
            self._last[event.kind] = now_s, event

    def timeline(self) -> list[dict[str, Any]]:
        """The changes of the model, newest first."""
        return [_change(each) for each in reversed(self._changes)]

    def modules(self, now_s: float, *, connected: bool, inference_s: float | None) -> list[dict[str, Any]]:
        """The state of hub, camera and inference in words. `inference_s`: its last message of any output."""
        hub = ("connected", "good") if connected else ("no connection", "error")
        return [
            _module("edgeHub", *hub),
            self._camera(now_s),
            self._inference(now_s, inference_s),
        ]

    def drift(self) -> dict[str, Any] | None:
        """The last event of a drift detector; None if there is none."""
        if "drift" not in self._last:
            return None
        event = self._last["drift"][1]
        return event.model_dump(include={"state", "detector", "measure", "value", "since"})

    def notes(self) -> Iterator[Note]:
        """What is wrong now, and what to do."""
        for kind, make in (("model", _model_note), ("camera", _camera_note), ("drift", _drift_note)):
            if kind in self._last and (note := make(self._last[kind][1])) is not None:
                yield note

    def _camera(self, now_s: float) -> dict[str, Any]:
        if "camera" not in self._last:
            return _module("camera", "not heard of", "info", "its output events has no route to this page?")
        heard_s, event = self._last["camera"]
        name = event.camera or "camera"
        if now_s - heard_s > SILENT_S:
            return _module(name, f"silent for {now_s - heard_s:.0f} s", "error", "twinship status says why")
        words, level = _CAMERA_STATES.get(event.state, (event.state, "info"))
        if event.paused and level != "error":
            words, level = "is paused", "info"
        rate = "" if event.fps is None or event.paused else f"{event.fps:g} frames/s"
        more = [event.source or "", rate, _reason(event), f"since {event.since}" if event.since else ""]
        return _module(name, words, level, ", ".join(each for each in more if each))

    def _inference(self, now_s: float, other_s: float | None) -> dict[str, Any]:
        known = self._last.get("model")
        heard = [each for each in (known and known[0], other_s) if each is not None]
        if not heard:
            return _module("inference", "not heard of", "info")
        if now_s - max(heard) > SILENT_S:
            return _module(
                "inference", f"silent for {now_s - max(heard):.0f} s", "error", "twinship status says why"
            )
        if known is None:
            return _module("inference", "runs", "good")
        serving = known[1].active
        if serving is None:
            return _module("inference", "runs without a model", "warning")
        return _module("inference", "runs", "good", f"{serving.name}:{serving.version}")


def _module(name: str, words: str, level: str, more: str = "") -> dict[str, Any]:
    return {"name": name, "words": words, "level": level, "more": more}


def _change(event: Event) -> dict[str, Any]:
    words, level = MODEL_STATES.get(event.state, (event.state, "info"))
    if isinstance(event.reason, Reason) and event.reason.code == "rolled-back":
        words, level = ROLLED_BACK
    return {
        "model": _model(event),
        "sha256": event.sha256 or "",
        "state": event.state,
        "words": words,
        "level": level,
        "reason": _reason(event),
        "at_ms": event.at_ns // 1_000_000,
    }


def _model(event: Event) -> str:
    return f"{event.name}:{event.version}" if event.name and event.version else (event.name or "")


def _reason(event: Event) -> str:
    reason = event.reason
    return f"{reason.code}: {reason.message}" if isinstance(reason, Reason) else (reason or "")


def _model_note(event: Event) -> Note | None:
    change = _change(event)
    if (cure := _MODEL_CURES.get(event.state)) is None:
        return None
    return Note(
        "warning", f"Model {change['model'] or 'of the twin'}: {change['words']}. {change['reason']}", cure
    )


def _camera_note(event: Event) -> Note | None:
    if event.state != "lost":
        return None
    return Note(
        "error",
        f"{event.camera or 'The camera'} has lost its source: {_reason(event) or 'no reason given'}",
        "Check the source's cable, address and power. The camera tries again by itself.",
    )


def _drift_note(event: Event) -> Note | None:
    if event.state != "drift":
        return None
    found = " of ".join(str(each) for each in (event.detector, event.measure) if each is not None)
    return Note(
        "warning",
        f"The pictures or answers differ from those of the training{f' ({found})' if found else ''}.",
        "Look at the camera: dirt, light, another scene. If the change is to stay, train with new pictures.",
    )
