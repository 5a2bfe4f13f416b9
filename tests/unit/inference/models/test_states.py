"""The tables: every event has a place to go, every code a meaning, every report fits into a twin."""

import re
from pathlib import Path
from typing import Any

import pytest

import inference
from inference.model_section import ModelRef, ModelState
from inference.models.errors import CODES
from inference.models.states import (
    ANY,
    AT_REST,
    BUSY,
    ENDS,
    START,
    TRANSITIONS,
    Action,
    Event,
    diagram,
    retry_delay_s,
    step,
)
from inference.models.status import MAX_HISTORY, HistoryEntry, Reason, Status

S, E = ModelState, Event
OUTSIDE = [
    E.WISHED,
    E.SATISFIED,
    E.SATISFIED_UNPROVEN,
    E.KNOWN_REFUSED,
    E.KNOWN_WITHDRAWN,
    E.SECTION_ABSENT,
    E.ROLL_BACK_ASKED,
]
REF = ModelRef("digits", "1.0.0", 1, "ab" * 32)


def test_no_state_and_event_stand_twice() -> None:
    """The table is a function: a pair of state and event leads to one place."""
    pairs = [(state, row.event) for row in TRANSITIONS for state in row.states]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("state", [S.CHECKING, S.PROVING, S.LOADING, S.STARTING])
def test_every_end_of_an_effect_is_expected(state: ModelState) -> None:
    """Whatever an effect ends in, the state that ordered it knows what to do."""
    actions = {row.action for row in TRANSITIONS if row.to is state} or {START.action}
    for action in actions:
        for event in ENDS[action]:
            step(state, event)


@pytest.mark.parametrize("state", sorted(ANY))
@pytest.mark.parametrize("event", OUTSIDE)
def test_the_twin_may_change_at_any_time(state: ModelState, event: Event) -> None:
    """A new section, an absent one and a rollback are understood in every state."""
    step(state, event)


@pytest.mark.parametrize("state", sorted(AT_REST))
@pytest.mark.parametrize("event", [E.PASSED, E.FAILED])
def test_probation_may_end_while_the_twin_asks_for_something_else(state: ModelState, event: Event) -> None:
    """What is on probation is watched to the end; only its own state is changed by that."""
    if (state, event) == (S.ACTIVE, E.PASSED):
        assert step(state, event).action is Action.SETTLE
    after = step(state, event)
    if state not in (S.PROBATION, S.ACTIVE):
        assert after.state is state


def test_the_straight_way() -> None:
    """Check, prove, load, promote, settle: in this order and no other."""
    state, actions = S.EMPTY, []
    for event in (E.WISHED, E.VERIFIED, E.PROVED, E.LOADED, E.PASSED):
        state, action = (after := step(state, event)).state, after.action
        actions.append(action)
    assert actions == [Action.CHECK, Action.PROVE, Action.LOAD, Action.PROMOTE, Action.SETTLE]
    assert state is S.ACTIVE


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (S.EMPTY, E.LOADED),
        (S.CHECKING, E.LOADED),
        (S.CHECKING, E.PROVED),
        (S.PROVING, E.LOADED),
        (S.REFUSED, E.RETRY_DUE),
        (S.WITHDRAWN, E.RETRY_DUE),
        (S.STARTING, E.WISHED),
    ],
)
def test_no_step_can_be_skipped(state: ModelState, event: Event) -> None:
    """Nothing is loaded that was not proved, nothing proved that was not checked, no refusal retried."""
    with pytest.raises(LookupError, match=state.value):
        step(state, event)


def test_every_state_can_be_reached() -> None:
    """No state stands in the table for nothing."""
    reached = {START.state} | {row.to for row in TRANSITIONS if row.to}
    assert reached == set(S)


def test_every_code_is_in_the_table_and_used() -> None:
    """A code that the twin shows can be looked up, and none is there for nothing."""
    folder = Path(inference.__file__).parent
    sources = "".join(path.read_text() for path in folder.rglob("*.py") if path.name != "errors.py")
    raised = set(
        re.findall(r'(?:Model(?:Refused|Unavailable)|Reason|Verdict|Ending)\(\s*"([a-z-]+)"', sources)
    )
    assert raised - set(CODES) == set()
    assert {code for code in CODES if f'"{code}"' not in sources} == set()


def test_a_lasting_verdict_is_never_about_the_device() -> None:
    """What is not the model's fault is not held against it after a restart."""
    assert not any(code.lasting for code in CODES.values() if code.state is S.UNAVAILABLE)


def test_retries_grow_and_are_spread() -> None:
    """Back-off doubles up to its cap, and a fleet does not come back in one moment."""
    assert [retry_delay_s(n, 1.0) for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert retry_delay_s(3, 0.0) == 2
    assert retry_delay_s(1, 1.0, first_s=0.1, cap_s=0.2) == 0.1


def limits(value: Any, depth: int = 1, in_array: bool = False) -> None:
    """What edgeHub refuses in a reported patch (ref 4.9)."""
    assert depth <= 10
    assert not (value is None and in_array)
    if isinstance(value, dict):
        for key, inner in value.items():
            assert not set(key) & set(".$# ")
            limits(inner, depth + 1, in_array)
    elif isinstance(value, list):
        for inner in value:
            limits(inner, depth + 1, in_array=True)
    elif isinstance(value, str):
        assert len(value.encode()) <= 4096


@pytest.mark.parametrize("state", list(S))
def test_every_report_fits_into_a_twin(state: ModelState) -> None:
    """Long messages are cut, nothing unknown stands in an array, and the last 8 transitions are told."""
    happened = tuple(HistoryEntry(state, f"2024-01-01T00:00:{n:02}Z", code="x" * (n % 2)) for n in range(20))
    full = Status(
        state, 7, REF, REF.reported(), REF, Reason("bad-section", "ä" * 9000), {"loadMs": 1.23456}, happened
    )
    for status in (full, Status(state)):
        limits(status.reported())
    told = full.reported()
    assert told["model"]["value"] == REF.reported()
    assert told["model"]["av"] == 7
    assert len(told["modelStatus"]["history"]) == MAX_HISTORY
    assert told["modelStatus"]["timings"]["loadMs"] == 1.235
    assert Status(state).reported()["modelStatus"]["error"] is None


@pytest.mark.parametrize(
    ("state", "code"), [(S.ACTIVE, 200), (S.PROBATION, 202), (S.REFUSED, 400), (S.UNAVAILABLE, 503)]
)
def test_the_section_is_answered_in_the_plug_and_play_way(state: ModelState, code: int) -> None:
    """200 taken, 202 under way, 400 refused, 503 tried again."""
    assert Status(state).reported()["model"]["ac"] == code


def test_a_candidate_that_is_half_known_hides_the_last_one() -> None:
    """Patches merge: what this candidate does not say must not be read from the one before it."""
    told = Status(S.REFUSED, 1, candidate={"name": "x"}).reported()
    assert told["modelStatus"]["candidate"] == {"name": "x", "version": None, "sha256": None}
    assert Status(S.REFUSED, 1, candidate={}).reported()["modelStatus"]["candidate"] is None


def test_the_diagram_is_drawn_from_the_table() -> None:
    """Every transition is in the picture, and every state."""
    drawn = diagram()
    assert drawn.startswith("stateDiagram-v2\n")
    for row in TRANSITIONS:
        assert f": {row.event.value}" in drawn
    for state in S:
        assert state.value in drawn
    assert "checking --> proving: verified / prove" in drawn
    assert BUSY | AT_REST == ANY
