"""Towards the model that the twin names: states, events, transitions and verdict codes, as tables.

Pure: `step` says what happens next, `delivery` does it. Nothing here verifies, loads, stores, waits or reads
a clock. The diagram in the documentation is drawn from TRANSITIONS by `diagram`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from inference.model_section import ModelState


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


class Action(StrEnum):
    """What is then to be done. ENDS says in which event it ends."""

    NOTHING = "nothing"
    RESTORE = "restore"  # the last good model, from disk
    CHECK = "check"  # size, signature, digest
    PROVE = "prove"  # in a child process
    LOAD = "load"  # write the attempt down, load, warm
    PROMOTE = "promote"  # one assignment
    QUARANTINE = "condemn"  # remember the refusal under the section's digest
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
    action: Action


S, E, D = ModelState, Event, Action  # the table below is read across
BUSY = frozenset({S.CHECKING, S.PROVING, S.LOADING})
ANY = frozenset(S) - {S.STARTING}
AT_REST = ANY - BUSY
_RUNS = frozenset({S.PROBATION, S.ACTIVE})


def _row(states: ModelState | frozenset[ModelState], event: Event, to: ModelState | None, do: Action) -> Row:
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
    _row(BUSY, E.REFUSED, S.REFUSED, D.QUARANTINE),
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
ENDS: Mapping[Action, frozenset[Event]] = {
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
    action: Action


START = Transition(ModelState.STARTING, Action.RESTORE)


def step(state: ModelState, event: Event) -> Transition:
    """The next state and its effect. LookupError (a programming error) for an event that it does not know."""
    row = _TABLE.get((state, event))
    if row is None:
        raise LookupError(f"no transition from {state.value!r} on {event.value!r}")
    return Transition(row.to or state, row.action)


def retry_delay_s(failures: int, jitter: float, first_s: float = 1.0, cap_s: float = 60.0) -> float:
    """How long to wait after so many failures in a row; `jitter`, 0 to 1, spreads devices over half of it."""
    full = min(cap_s, first_s * 2.0 ** min(failures - 1, 30))
    return float(full * (0.5 + 0.5 * jitter))


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
    return row.event.value if row.action is Action.NOTHING else f"{row.event.value} / {row.action.value}"
