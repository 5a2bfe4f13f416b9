"""The state of the reconciler, and its report in the module twin: `modelStatus`, and the answer to `model`.

>>> State(ModelState.UNASSIGNED).reported()["model"]["ac"]
200
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.model_section import ModelRef, ModelState
from inference.models.errors import Reason
from inference.models.store import Memory, StoredModel

# The answer to the section in each state, as IoT Plug and Play defines it: a status code and one line.
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
_TIMINGS = ("checkMs", "proveMs", "loadMs", "installMs", "proofP50Ms", "proofP95Ms")


@dataclass(frozen=True)
class DesiredModel:
    """The desired `model` section as it came; `digest` is empty when the twin has none."""

    section: object
    version: int  # `$version` of the desired properties
    digest: str
    notified_ns: int = 0  # when the module was notified of it, CLOCK_MONOTONIC

    def describe(self) -> dict[str, str]:
        """Name, version and sha256, as far as the section holds them: it may be unreadable."""
        section = self.section if isinstance(self.section, Mapping) else {}
        found = {key: section.get(key) for key in ("name", "version", "sha256")}
        return {k: v for k, v in found.items() if isinstance(v, str) and len(v) <= 64 and v.isprintable()}


@dataclass(frozen=True)
class LoadedModel:
    """A model that is loaded; `engine` holds its runtime and delegate as reported."""

    ref: ModelRef
    engine: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class HistoryEntry:
    """One line of the history. `at` is ISO 8601 in UTC; name, version and code may be empty."""

    state: ModelState
    at: str
    name: str = ""
    version: str = ""
    code: str = ""

    def reported(self) -> dict[str, str]:
        # An array in a twin holds no null (ref 4.9), so unknown fields are left out.
        optional = {"name": self.name, "version": self.version, "code": self.code}
        return {"state": self.state.value, "at": self.at} | {k: v for k, v in optional.items() if v}


@dataclass(frozen=True)
class State:
    """Everything that the reconciler knows. It is replaced whole; `memory` is the part that is on disk."""

    model: ModelState = ModelState.STARTING
    desired: DesiredModel | None = None
    serving: LoadedModel | None = None
    previous: LoadedModel | None = None
    on_probation: bool = False  # the serving model is
    candidate: ModelRef | None = None  # verified, not promoted yet
    task: int = 0  # the number of the last check, proof or load; results of earlier ones are ignored
    rejected: Mapping[str, str] | None = None  # describes the candidate, in progress or rejected
    reason: Reason | None = None  # why the desired model does not run, or does not run any more
    disk: Reason | None = None  # why the memory could not be saved
    failures: int = 0  # in a row, none of them the fault of the desired model
    retry_at_s: float | None = None  # CLOCK_MONOTONIC
    restoring: tuple[StoredModel, ...] = ()  # the first one is being loaded; if it fails, the next one
    memory: Memory = field(default_factory=Memory)
    refusals: Mapping[str, Reason] = field(default_factory=dict)  # verdicts that a restart may change
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # keys of _TIMINGS
    history: tuple[HistoryEntry, ...] = ()

    def serves(self, ref: ModelRef | None) -> bool:
        return bool(self.serving and ref and self.serving.ref.sha256 == ref.sha256)

    def reported(self) -> dict[str, Any]:
        """The reported patch. A null deletes what an earlier patch reported."""
        code, text = _ANSWERS[self.model]
        reason = self.reason or self.disk
        error = reason.reported() if reason else None
        active = self.serving.ref.reported() if self.serving else None
        answer = {"value": active, "ac": code, "ad": error["message"] if error else text}
        if self.desired is not None:
            answer["av"] = self.desired.version
        return {
            "model": answer,
            "modelStatus": {
                "state": self.model.value,
                "active": active,
                "engine": (dict(self.serving.engine) or None) if self.serving else None,
                "candidate": _whole(self.rejected),
                "previous": self.previous.ref.reported() if self.previous else None,
                "error": error,
                "timings": {name: _rounded(self.timings_ms.get(name)) for name in _TIMINGS},
                "history": [each.reported() for each in self.history[-MAX_HISTORY:]],
            },
        }


def model_event(patch: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the event `model` for a reported patch: the state, the model that it is about, and why.

    `active` and `previous` are the models that serve and that a rollback would go back to.

    >>> model_event(State(ModelState.EMPTY).reported())["state"]
    'empty'
    """
    status = patch["modelStatus"]
    subject = status["candidate"] or status["active"] or {}
    return {
        "state": status["state"],
        **{field: subject.get(field) for field in ("name", "version", "sha256")},
        "reason": status["error"],
        "active": status["active"],
        "previous": status["previous"],
    }


def _whole(described: Mapping[str, str] | None) -> dict[str, str | None] | None:
    """With a null for each unknown field: a merge would keep the value of an earlier candidate."""
    return {key: described.get(key) for key in ("name", "version", "sha256")} if described else None


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
