"""The table of the reconciler: which state follows which event, and how `step` responds.

The rule that must hold: nothing is loaded that was not proved, and nothing is proved that was not checked.
`diagram` makes the picture in ARCHITECTURE.md from TRANSITIONS.

>>> transition(ModelState.CHECKING, Trigger.VERIFIED)
(<ModelState.PROVING: 'proving'>, <Response.PROVE: 'prove'>)
"""

from collections.abc import Set
from enum import StrEnum

from inference.model_section import ModelState


class Trigger(StrEnum):
    """What an event means for the state machine."""

    RESTORED = "restored"  # the last good model runs again, from disk
    RESTORED_UNPROVEN = "restored unproven"  # it runs again, and its probation begins again
    RESTORED_ANOTHER = "restored another"  # the last one crashed too often and is withdrawn at this start
    NOTHING_STORED = "nothing stored"
    NEW_SECTION = "new section"  # a section that has no verdict yet
    SATISFIED = "satisfied"  # the section names the model that runs
    SATISFIED_UNPROVEN = "satisfied unproven"  # … which is on probation
    KNOWN_REFUSED = "known refused"  # this exact section was refused before
    KNOWN_WITHDRAWN = "known withdrawn"  # the model of this exact section ran before and was withdrawn
    SECTION_ABSENT = "section absent"
    VERIFIED = "verified"
    PROVED = "proved"
    LOADED = "loaded"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    RETRY_DUE = "retry due"
    PASSED = "passed"  # the serving model passed probation
    FAILED = "failed"  # the serving model failed probation; the frame path has gone back already
    REPLACED_PASSED = "replaced passed"  # a model passed probation just before another one replaced it
    REPLACED_FAILED = "replaced failed"
    ROLLBACK_REQUESTED = "rollback requested"


class Response(StrEnum):
    """How `step` responds."""

    NOTHING = "nothing"
    CHECK = "check"  # size, signature, digest
    PROVE = "prove"  # in a child process
    LOAD = "load"  # save the attempt, load, warm
    PROMOTE = "promote"  # the candidate serves from now on
    QUARANTINE = "quarantine"  # remember the refusal under the digest of the section
    RETRY_LATER = "retry later"  # with back-off
    MARK_PROVEN = "mark proven"  # remember that probation is over
    WITHDRAW = "withdraw"  # remember the failure under the digest of the model's section
    ROLL_BACK = "roll back"  # serve `previous`, and remember that a person wanted it


S, T, R = ModelState, Trigger, Response  # short, so that each row below is one line
BUSY = frozenset({S.CHECKING, S.PROVING, S.LOADING})
ANY = frozenset(S) - {S.STARTING}
AT_REST = ANY - BUSY
_SERVING = frozenset({S.PROBATION, S.ACTIVE})  # states that describe the serving model

#: States, trigger, next state (None: the same), response.
TRANSITIONS: tuple[tuple[Set[ModelState], Trigger, ModelState | None, Response], ...] = (
    ({S.STARTING}, T.RESTORED, S.ACTIVE, R.NOTHING),
    ({S.STARTING}, T.RESTORED_UNPROVEN, S.PROBATION, R.NOTHING),
    ({S.STARTING}, T.RESTORED_ANOTHER, S.WITHDRAWN, R.NOTHING),
    ({S.STARTING}, T.NOTHING_STORED, S.EMPTY, R.NOTHING),
    # The newest section wins in every state. It replaces the candidate only, never the serving model.
    (ANY, T.NEW_SECTION, S.CHECKING, R.CHECK),
    (ANY, T.SATISFIED, S.ACTIVE, R.NOTHING),
    (ANY, T.SATISFIED_UNPROVEN, S.PROBATION, R.NOTHING),
    (ANY, T.KNOWN_REFUSED, S.REFUSED, R.NOTHING),
    (ANY, T.KNOWN_WITHDRAWN, S.WITHDRAWN, R.NOTHING),
    (ANY, T.SECTION_ABSENT, S.UNASSIGNED, R.NOTHING),
    (ANY, T.ROLLBACK_REQUESTED, S.WITHDRAWN, R.ROLL_BACK),
    ({S.CHECKING}, T.VERIFIED, S.PROVING, R.PROVE),
    ({S.PROVING}, T.PROVED, S.LOADING, R.LOAD),
    ({S.LOADING}, T.LOADED, S.PROBATION, R.PROMOTE),
    (BUSY, T.REFUSED, S.REFUSED, R.QUARANTINE),
    (BUSY, T.UNAVAILABLE, S.UNAVAILABLE, R.RETRY_LATER),
    ({S.UNAVAILABLE}, T.RETRY_DUE, S.CHECKING, R.CHECK),
    ({S.PROBATION}, T.PASSED, S.ACTIVE, R.MARK_PROVEN),
    (_SERVING, T.FAILED, S.WITHDRAWN, R.WITHDRAW),
    # The state describes another model or none; the probation of the serving model ends all the same.
    (AT_REST - {S.PROBATION}, T.PASSED, None, R.MARK_PROVEN),
    (AT_REST - _SERVING, T.FAILED, None, R.WITHDRAW),
    # A candidate is not disturbed by the end of the serving model's probation.
    (BUSY, T.PASSED, None, R.MARK_PROVEN),
    (BUSY, T.FAILED, None, R.WITHDRAW),
    (ANY, T.REPLACED_PASSED, None, R.MARK_PROVEN),
    (ANY, T.REPLACED_FAILED, None, R.WITHDRAW),
)

_TABLE = {
    (state, trigger): (to, response) for states, trigger, to, response in TRANSITIONS for state in states
}


def transition(state: ModelState, trigger: Trigger) -> tuple[ModelState, Response]:
    """The next state and the response. LookupError (a programming error) for a pair that is in no row."""
    if (state, trigger) not in _TABLE:
        raise LookupError(f"no transition from {state.value!r} on {trigger.value!r}")
    to, response = _TABLE[state, trigger]
    return to or state, response


def diagram() -> str:
    """TRANSITIONS as a mermaid state diagram: one arrow for each row, labelled `trigger / response`."""
    lines = ["stateDiagram-v2", f"    [*] --> {S.STARTING.value}"]
    for states, trigger, to, response in TRANSITIONS:
        label = trigger.value if response is R.NOTHING else f"{trigger.value} / {response.value}"
        lines += [f"    {source} --> {to.value if to else source}: {label}" for source in _sources(states)]
    at_rest = ", ".join(state.value for state in S if state in AT_REST)
    lines += [
        f"    note right of any: every state but {S.STARTING.value}",
        f"    note right of at_rest: {at_rest}",
    ]
    return "\n".join([*lines, ""])


def _sources(states: Set[ModelState]) -> tuple[str, ...]:
    """The boxes that a row starts from: one box for all states, or for most states at rest."""
    if states == ANY:
        return ("any",)
    if len(states) > len(BUSY):
        return ("at_rest",)
    return tuple(state.value for state in S if state in states)
