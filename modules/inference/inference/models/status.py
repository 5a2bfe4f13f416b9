"""The reported property `modelStatus` of the module twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.model_section import ModelRef, ModelState

# What the device answers about the section in each state, in the IoT Plug and Play way.
_ANSWERS: Mapping[ModelState, tuple[int, str]] = {
    ModelState.STARTING: (202, "starting"),
    ModelState.EMPTY: (202, "no model yet"),
    ModelState.UNASSIGNED: (200, "unassigned: the twin names no model, what runs keeps running"),
    ModelState.CHECKING: (202, "fetching it where need be; checking size, signature and digest"),
    ModelState.PROVING: (202, "trying it in a process of its own"),
    ModelState.LOADING: (202, "loading"),
    ModelState.PROBATION: (202, "it answers the frames, on probation"),
    ModelState.ACTIVE: (200, "it answers the frames"),
    ModelState.REFUSED: (400, "refused"),
    ModelState.UNAVAILABLE: (503, "not now: tried again"),
    ModelState.WITHDRAWN: (400, "withdrawn"),
}


MAX_HISTORY = 8


_MAX_MESSAGE_BYTES = 1024  # a reported string may hold 4,096 (ref 4.9); a person reads less


_TIMINGS = ("checkMs", "proveMs", "loadMs", "installMs", "proofP50Ms", "proofP95Ms")


@dataclass(frozen=True)
class Reason:
    """Why a model does not run: one of CODES, and one line for a person."""

    code: str
    message: str

    def reported(self) -> dict[str, str]:
        text = self.message.encode()[:_MAX_MESSAGE_BYTES].decode(errors="ignore")
        return {"code": self.code, "message": text}


@dataclass(frozen=True)
class HistoryEntry:
    """One line of the history. `at` is ISO 8601 in UTC; name, version and code may be empty."""

    state: ModelState
    at: str
    name: str = ""
    version: str = ""
    code: str = ""

    def reported(self) -> dict[str, str]:
        # No null may stand in an array (ref 4.9), so what is unknown is left out.
        optional = {"name": self.name, "version": self.version, "code": self.code}
        return {"state": self.state.value, "at": self.at} | {k: v for k, v in optional.items() if v}


@dataclass(frozen=True)
class Status:
    """What the twin says about models. `candidate` is the wish that is under way or was turned down."""

    state: ModelState
    desired_version: int | None = None  # `$version` of the desired properties that this answers
    active: ModelRef | None = None
    candidate: Mapping[str, str] | None = None
    previous: ModelRef | None = None
    error: Reason | None = None
    timings: Mapping[str, float] = field(default_factory=dict)  # of _TIMINGS, in ms
    history: tuple[HistoryEntry, ...] = ()
    engine: Mapping[str, str | None] | None = None  # what computes the active one

    def reported(self) -> dict[str, Any]:
        """The reported patch: a null deletes what an earlier patch said."""
        code, words = _ANSWERS[self.state]
        error = self.error.reported() if self.error else None
        active = self.active.reported() if self.active else None
        answer = {"value": active, "ac": code, "ad": error["message"] if error else words}
        if self.desired_version is not None:
            answer["av"] = self.desired_version
        return {
            "model": answer,
            "modelStatus": {
                "state": self.state.value,
                "active": active,
                "engine": dict(self.engine) if self.engine else None,
                "candidate": _whole(self.candidate),
                "previous": self.previous.reported() if self.previous else None,
                "error": error,
                "timings": {name: _rounded(self.timings.get(name)) for name in _TIMINGS},
                "history": [each.reported() for each in self.history[-MAX_HISTORY:]],
            },
        }


def _whole(words: Mapping[str, str] | None) -> dict[str, str | None] | None:
    """With a null for what is not known: a merge would leave another candidate's."""
    return {key: words.get(key) for key in ("name", "version", "sha256")} if words else None


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
