"""Towards the model that the twin names: states, events, transitions and verdict codes, as tables.

Pure: `step` says what happens next, `delivery` does it. Nothing here verifies, loads, stores, waits or reads
a clock. The diagram in the documentation is drawn from TRANSITIONS by `diagram`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from inference.wish import ModelRef, ModelState


class Event(StrEnum):
    """What can happen to the reconciler."""

    RESTORED = "restored"  # the last good model runs again, from disk
    RESTORED_UNPROVEN = "restored unproven"  # it runs again, and its probation begins anew
    RESTORED_ANOTHER = "restored another"  # the last one was withdrawn at this start: it had crashed
    NOTHING_KEPT = "nothing kept"
    WISHED = "wished"  # a section that has no verdict yet
    SATISFIED = "satisfied"  # the section names what runs
    SATISFIED_UNPROVEN = "satisfied unproven"  # … which is on probation
    KNOWN_REFUSED = "known refused"  # the exact section was refused before
    KNOWN_WITHDRAWN = "known withdrawn"  # its model ran before, and was withdrawn
    SECTION_ABSENT = "section absent"
    VERIFIED = "verified"
    PROVED = "proved"
    LOADED = "loaded"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    RETRY_DUE = "retry due"
    PASSED = "passed"  # probation ended well
    FAILED = "failed"  # probation ended badly; the frame path has gone back already
    ROLL_BACK_ASKED = "rollback asked"


class Effect(StrEnum):
    """What is then to be done. ENDS says in which event it ends."""

    NOTHING = "nothing"
    RESTORE = "restore"  # the last good model, from disk
    CHECK = "check"  # size, signature, digest
    PROVE = "prove"  # in a child process
    LOAD = "load"  # write the attempt down, load, warm
    PROMOTE = "promote"  # one assignment
    CONDEMN = "condemn"  # remember the refusal under the section's digest
    RETRY_LATER = "retry later"  # with back-off
    SETTLE = "settle"  # remember that probation is over
    WITHDRAW = "withdraw"  # remember the failure under the digest of the model's section
    ROLL_BACK = "roll back"  # go back to `previous`, and remember that a person wanted it


@dataclass(frozen=True)
class Row:
    """One line of the table; `to` is None where the state stays what it is."""

    states: frozenset[ModelState]
    event: Event
    to: ModelState | None
    effect: Effect


S, E, D = ModelState, Event, Effect  # the table below is read across
BUSY = frozenset({S.CHECKING, S.PROVING, S.LOADING})
ANY = frozenset(S) - {S.STARTING}
AT_REST = ANY - BUSY
_RUNS = frozenset({S.PROBATION, S.ACTIVE})


def _row(states: ModelState | frozenset[ModelState], event: Event, to: ModelState | None, do: Effect) -> Row:
    return Row(states if isinstance(states, frozenset) else frozenset({states}), event, to, do)


TRANSITIONS: tuple[Row, ...] = (
    _row(S.STARTING, E.RESTORED, S.ACTIVE, D.NOTHING),
    _row(S.STARTING, E.RESTORED_UNPROVEN, S.PROBATION, D.NOTHING),
    _row(S.STARTING, E.RESTORED_ANOTHER, S.WITHDRAWN, D.NOTHING),
    _row(S.STARTING, E.NOTHING_KEPT, S.EMPTY, D.NOTHING),
    # The newest section wins in every state. It replaces the candidate only, never what runs.
    _row(ANY, E.WISHED, S.CHECKING, D.CHECK),
    _row(ANY, E.SATISFIED, S.ACTIVE, D.NOTHING),
    _row(ANY, E.SATISFIED_UNPROVEN, S.PROBATION, D.NOTHING),
    _row(ANY, E.KNOWN_REFUSED, S.REFUSED, D.NOTHING),
    _row(ANY, E.KNOWN_WITHDRAWN, S.WITHDRAWN, D.NOTHING),
    _row(ANY, E.SECTION_ABSENT, S.UNASSIGNED, D.NOTHING),
    _row(ANY, E.ROLL_BACK_ASKED, S.WITHDRAWN, D.ROLL_BACK),
    _row(S.CHECKING, E.VERIFIED, S.PROVING, D.PROVE),
    _row(S.PROVING, E.PROVED, S.LOADING, D.LOAD),
    _row(S.LOADING, E.LOADED, S.PROBATION, D.PROMOTE),
    _row(BUSY, E.REFUSED, S.REFUSED, D.CONDEMN),
    _row(BUSY, E.UNAVAILABLE, S.UNAVAILABLE, D.RETRY_LATER),
    _row(S.UNAVAILABLE, E.RETRY_DUE, S.CHECKING, D.CHECK),
    _row(S.PROBATION, E.PASSED, S.ACTIVE, D.SETTLE),
    _row(_RUNS, E.FAILED, S.WITHDRAWN, D.WITHDRAW),
    # What is on probation goes on being watched while the twin asks for something else.
    _row(AT_REST - {S.PROBATION}, E.PASSED, None, D.SETTLE),
    _row(AT_REST - _RUNS, E.FAILED, None, D.WITHDRAW),
)

_TURNED_DOWN = frozenset({E.REFUSED, E.UNAVAILABLE})
#: The events in which an effect may end. After the others the machine waits for something from outside.
ENDS: Mapping[Effect, frozenset[Event]] = {
    D.RESTORE: frozenset({E.RESTORED, E.RESTORED_UNPROVEN, E.RESTORED_ANOTHER, E.NOTHING_KEPT}),
    D.CHECK: frozenset({E.VERIFIED, E.SATISFIED, E.SATISFIED_UNPROVEN}) | _TURNED_DOWN,
    D.PROVE: frozenset({E.PROVED}) | _TURNED_DOWN,
    D.LOAD: frozenset({E.LOADED}) | _TURNED_DOWN,
}

_TABLE = {(state, row.event): row for row in TRANSITIONS for state in row.states}


@dataclass(frozen=True)
class Transition:
    """Where the machine is now, and what is to be done there."""

    state: ModelState
    effect: Effect


START = Transition(ModelState.STARTING, Effect.RESTORE)


def step(state: ModelState, event: Event) -> Transition:
    """The next state and its effect. LookupError (a programming error) for an event that it does not know."""
    row = _TABLE.get((state, event))
    if row is None:
        raise LookupError(f"no transition from {state.value!r} on {event.value!r}")
    return Transition(row.to or state, row.effect)


def retry_delay_s(failures: int, jitter: float, first_s: float = 1.0, cap_s: float = 60.0) -> float:
    """How long to wait after so many failures in a row; `jitter`, 0 to 1, spreads devices over half of it."""
    full = min(cap_s, first_s * 2.0 ** min(failures - 1, 30))
    return float(full * (0.5 + 0.5 * jitter))


@dataclass(frozen=True)
class Code:
    """One reason. `state`: whose fault it is. `lasting`: the verdict outlives the process.

    What a restart may mend (another key, another image) is judged again at each start, which costs no load.
    """

    state: ModelState
    lasting: bool
    meaning: str


CODES: Mapping[str, Code] = {
    "bad-section": Code(S.REFUSED, False, "the section cannot be understood; the message names each field"),
    "source-forbidden": Code(
        S.REFUSED,
        False,
        "not https, or an address that no model comes from unless MODEL_SOURCE_ALLOW says so",
    ),
    "source-missing": Code(S.REFUSED, False, "nothing is at the address (404, 410)"),
    "source-denied": Code(
        S.REFUSED, False, "the source denies it (401, 403 and the like): a signature of the address expired?"
    ),
    "too-large": Code(S.REFUSED, False, "larger than a model may be"),
    "wrong-size": Code(S.REFUSED, True, "not as many bytes as the section says"),
    "keys-unset": Code(S.REFUSED, False, "MODEL_TRUSTED_KEYS is not set on the device"),
    "keys-literal": Code(
        S.REFUSED, False, "MODEL_TRUSTED_KEYS was not replaced when the manifest was deployed"
    ),
    "keys-malformed": Code(S.REFUSED, False, "no entry of MODEL_TRUSTED_KEYS is a key"),
    "unsigned": Code(S.REFUSED, False, "no signature, and the device asks for one"),
    "unknown-key": Code(S.REFUSED, False, "signed by a key that the device does not trust"),
    "bad-signature": Code(S.REFUSED, False, "the signature does not verify"),
    "wrong-digest": Code(S.REFUSED, True, "the bytes are not those that were signed"),
    "bad-artefact": Code(S.REFUSED, True, "no model artefact, or a damaged one"),
    "wrong-name": Code(S.REFUSED, True, "the artefact's own name or version is another"),
    "runtime-too-old": Code(S.REFUSED, False, "the model asks for a newer runtime than this image has"),
    "needs-delegate": Code(
        S.REFUSED, False, "compiled for an accelerator whose delegate does not load here (DELEGATE)"
    ),
    "does-not-load": Code(S.REFUSED, True, "the runtime refuses it, or it is not what its manifest says"),
    "wrong-answers": Code(S.REFUSED, True, "it answers its own probes wrongly"),
    "over-budget": Code(S.REFUSED, True, "not one of its probes was answered within its latency budget"),
    "crashes-runtime": Code(S.REFUSED, True, "it killed the process that tried it"),
    "hangs-runtime": Code(S.REFUSED, True, "it did not come to an end in the process that tried it"),
    "load-failed": Code(S.REFUSED, True, "it was proved, but does not load beside the running one"),
    "source-unavailable": Code(
        S.UNAVAILABLE, False, "no name, no connection, no answer in time, cut off, or a fault of the server"
    ),
    "source-untrusted": Code(S.UNAVAILABLE, False, "no TLS with the source, or no certificate to trust"),
    "source-changed": Code(S.UNAVAILABLE, False, "what is at the address changed while it was downloaded"),
    "no-runtime": Code(S.UNAVAILABLE, False, "the image has no TFLite runtime"),
    "no-proof": Code(S.UNAVAILABLE, False, "the process that tries models did not start, or was killed"),
    "no-memory": Code(S.UNAVAILABLE, False, "the device has too little memory at the moment"),
    "disk-full": Code(S.UNAVAILABLE, False, "the disk is full"),
    "disk-read-only": Code(S.UNAVAILABLE, False, "the model folder cannot be written"),
    "state-too-new": Code(
        S.UNAVAILABLE, False, "a newer version wrote the model state: it was set aside, with its models"
    ),
    "disk-error": Code(S.UNAVAILABLE, False, "the disk fails"),
    "internal": Code(S.UNAVAILABLE, False, "a fault of this module: its log says more"),
    "engine-errors": Code(S.WITHDRAWN, True, "it failed on frames during probation"),
    "too-slow": Code(S.WITHDRAWN, True, "p95 of invoke was over the latency budget during probation"),
    "crashed": Code(S.WITHDRAWN, True, "two starts found it loaded and without a verdict"),
    "rolled-back": Code(S.WITHDRAWN, True, "a person went back to the model before it"),
}


class ModelRefused(Exception):
    """The model itself is at fault: not tried again until the twin's section changes.

    `code` is one of CODES, the text one line.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelUnavailable(Exception):
    """Not the model's fault: tried again later. `code` is one of CODES, the text one line."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# What the device answers about the section in each state, in the IoT Plug and Play way.
_ANSWERS: Mapping[ModelState, tuple[int, str]] = {
    S.STARTING: (202, "starting"),
    S.EMPTY: (202, "no model yet"),
    S.UNASSIGNED: (200, "unassigned: the twin names no model, what runs keeps running"),
    S.CHECKING: (202, "fetching it where need be; checking size, signature and digest"),
    S.PROVING: (202, "trying it in a process of its own"),
    S.LOADING: (202, "loading"),
    S.PROBATION: (202, "it answers the frames, on probation"),
    S.ACTIVE: (200, "it answers the frames"),
    S.REFUSED: (400, "refused"),
    S.UNAVAILABLE: (503, "not now: tried again"),
    S.WITHDRAWN: (400, "withdrawn"),
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
class Happened:
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
    history: tuple[Happened, ...] = ()
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


def diagram() -> str:
    """TRANSITIONS as a mermaid state diagram: one arrow a row, `event / effect` on it."""
    lines = ["stateDiagram-v2", f"    [*] --> {S.STARTING.value}"]
    lines += [
        f"    {_drawn(source)} --> {row.to.value if row.to else _drawn(source)}: {_label(row)}"
        for row in TRANSITIONS
        for source in _sources(row.states)
    ]
    at_rest = ", ".join(state.value for state in S if state in AT_REST)
    notes = [
        f"    note right of any: every state but {S.STARTING.value}",
        f"    note right of at_rest: {at_rest}",
    ]
    return "\n".join([*lines, *notes, ""])


def _sources(states: frozenset[ModelState]) -> tuple[ModelState | str, ...]:
    """A row for every state, or for most states at rest, is drawn from one box instead of many."""
    if states == ANY:
        return ("any",)
    if len(states) > len(BUSY):
        return ("at_rest",)
    return tuple(state for state in S if state in states)


def _drawn(source: ModelState | str) -> str:
    return source.value if isinstance(source, ModelState) else source


def _label(row: Row) -> str:
    return row.event.value if row.effect is Effect.NOTHING else f"{row.event.value} / {row.effect.value}"


def _whole(words: Mapping[str, str] | None) -> dict[str, str | None] | None:
    """With a null for what is not known: a merge would leave another candidate's."""
    return {key: words.get(key) for key in ("name", "version", "sha256")} if words else None


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
