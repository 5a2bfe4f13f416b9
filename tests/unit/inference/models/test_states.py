"""The table of the state machine: every pair of state and trigger, the codes, the diagram, the report."""

import re
from pathlib import Path
from typing import Any

import pytest

import inference
from inference.model_section import ModelRef, ModelState
from inference.models.errors import CODES, Reason
from inference.models.states import ANY, AT_REST, BUSY, TRANSITIONS, Response, Trigger, diagram, transition
from inference.models.status import MAX_HISTORY, DesiredModel, HistoryEntry, LoadedModel, State
from inference.models.step import retry_delay_s

S, T = ModelState, Trigger
OUTSIDE = [
    T.NEW_SECTION,
    T.SATISFIED,
    T.SATISFIED_UNPROVEN,
    T.KNOWN_REFUSED,
    T.KNOWN_WITHDRAWN,
    T.SECTION_ABSENT,
    T.ROLLBACK_REQUESTED,
]
#: The triggers with which a task may end.
ENDS = {
    Response.CHECK: {T.VERIFIED, T.SATISFIED, T.SATISFIED_UNPROVEN, T.REFUSED, T.UNAVAILABLE},
    Response.PROVE: {T.PROVED, T.REFUSED, T.UNAVAILABLE},
    Response.LOAD: {T.LOADED, T.REFUSED, T.UNAVAILABLE},
}
REF = ModelRef("digits", "1.0.0", 1, "ab" * 32)


def test_no_state_and_trigger_stand_twice() -> None:
    """A pair of state and trigger has one row."""
    pairs = [(state, trigger) for states, trigger, _, _ in TRANSITIONS for state in states]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("state", sorted(BUSY))
def test_every_end_of_a_task_is_in_the_table(state: ModelState) -> None:
    """A busy state has a row for every trigger with which its task may end."""
    responses = {response for _, _, to, response in TRANSITIONS if to is state}
    assert responses
    for response in responses:
        for trigger in ENDS[response]:
            transition(state, trigger)


@pytest.mark.parametrize("state", sorted(ANY))
@pytest.mark.parametrize("trigger", OUTSIDE)
def test_the_twin_may_change_at_any_time(state: ModelState, trigger: Trigger) -> None:
    """Every state has a row for a new section, an absent section and a rollback."""
    transition(state, trigger)


@pytest.mark.parametrize("state", sorted(ANY - {S.PROBATION, S.ACTIVE}))
@pytest.mark.parametrize(
    ("trigger", "response"),
    [
        (T.PASSED, Response.MARK_PROVEN),
        (T.FAILED, Response.WITHDRAW),
        (T.REPLACED_PASSED, Response.MARK_PROVEN),
        (T.REPLACED_FAILED, Response.WITHDRAW),
    ],
)
def test_probation_may_end_while_the_state_describes_another_model(
    state: ModelState, trigger: Trigger, response: Response
) -> None:
    """A probation ends in any state; a candidate, a refusal or a retry is not disturbed."""
    assert transition(state, trigger) == (state, response)


def test_probation_decides_the_state_of_the_serving_model() -> None:
    """Passed is active, failed is withdrawn."""
    assert transition(S.PROBATION, T.PASSED) == (S.ACTIVE, Response.MARK_PROVEN)
    assert transition(S.PROBATION, T.FAILED) == (S.WITHDRAWN, Response.WITHDRAW)


def test_the_normal_path() -> None:
    """Check, prove, load, promote, mark proven, in this order."""
    state, responses = S.EMPTY, []
    for trigger in (T.NEW_SECTION, T.VERIFIED, T.PROVED, T.LOADED, T.PASSED):
        state, response = transition(state, trigger)
        responses.append(response)
    assert responses == [
        Response.CHECK,
        Response.PROVE,
        Response.LOAD,
        Response.PROMOTE,
        Response.MARK_PROVEN,
    ]
    assert state is S.ACTIVE


@pytest.mark.parametrize(
    ("state", "trigger"),
    [
        (S.EMPTY, T.LOADED),
        (S.CHECKING, T.LOADED),
        (S.CHECKING, T.PROVED),
        (S.PROVING, T.LOADED),
        (S.REFUSED, T.RETRY_DUE),
        (S.WITHDRAWN, T.RETRY_DUE),
        (S.STARTING, T.NEW_SECTION),
    ],
)
def test_no_step_can_be_skipped(state: ModelState, trigger: Trigger) -> None:
    """Nothing is loaded without a proof or proved without a check, and no refusal is retried."""
    with pytest.raises(LookupError, match=state.value):
        transition(state, trigger)


def test_every_state_and_every_trigger_is_used() -> None:
    """No state is unreachable, and no trigger is without a row."""
    assert {S.STARTING} | {to for _, _, to, _ in TRANSITIONS if to} == set(S)
    assert {trigger for _, trigger, _, _ in TRANSITIONS} == set(T)
    assert {response for _, _, _, response in TRANSITIONS} == set(Response)


def test_every_code_is_in_the_table_and_used() -> None:
    """Each code that the module raises has an entry, and each entry is raised somewhere."""
    folder = Path(inference.__file__).parent
    sources = "".join(path.read_text() for path in folder.rglob("*.py") if path.name != "errors.py")
    raised = set(re.findall(r'(?:Model(?:Refused|Unavailable)|Reason)\(\s*"([a-z-]+)"', sources))
    assert raised - set(CODES) == set()
    assert {code for code in CODES if f'"{code}"' not in sources} == set()


def test_a_code_of_the_device_is_not_lasting() -> None:
    """A verdict that is not the model's fault does not outlive the process."""
    assert not any(code.lasting for code in CODES.values() if code.state is S.UNAVAILABLE)


def test_retry_delays_grow_and_are_spread() -> None:
    """The delay doubles up to its cap; jitter spreads a fleet over half of it."""
    assert [retry_delay_s(n, 1.0) for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert retry_delay_s(3, 0.0) == 2
    assert retry_delay_s(1, 1.0, first_s=0.1, cap_s=0.2) == 0.1


def check_limits(value: Any, depth: int = 1, in_array: bool = False) -> None:
    """Fail on what edgeHub refuses in a reported patch (ref 4.9)."""
    assert depth <= 10
    assert not (value is None and in_array)
    if isinstance(value, dict):
        for key, inner in value.items():
            assert not set(key) & set(".$# ")
            check_limits(inner, depth + 1, in_array)
    elif isinstance(value, list):
        for inner in value:
            check_limits(inner, depth + 1, in_array=True)
    elif isinstance(value, str):
        assert len(value.encode()) <= 4096


@pytest.mark.parametrize("state", list(S))
def test_every_report_fits_into_a_twin(state: ModelState) -> None:
    """Long messages are cut, arrays hold no null, and the history holds the last 8 entries."""
    entries = tuple(HistoryEntry(state, f"2024-01-01T00:00:{n:02}Z", code="x" * (n % 2)) for n in range(20))
    full = State(
        state,
        desired=DesiredModel(None, 7, ""),
        serving=LoadedModel(REF, {"runtime": "litert", "delegate": None}),
        previous=LoadedModel(REF),
        rejected=REF.reported(),
        reason=Reason("bad-section", "ä" * 9000),
        timings_ms={"loadMs": 1.23456},
        history=entries,
    )
    for each in (full, State(state)):
        check_limits(each.reported())
    report = full.reported()
    assert report["model"]["value"] == REF.reported()
    assert report["model"]["av"] == 7
    assert len(report["modelStatus"]["history"]) == MAX_HISTORY
    assert report["modelStatus"]["timings"]["loadMs"] == 1.235
    assert report["modelStatus"]["engine"] == {"runtime": "litert", "delegate": None}
    assert State(state).reported()["modelStatus"]["error"] is None
    assert State(state).reported()["modelStatus"]["engine"] is None


@pytest.mark.parametrize(
    ("state", "code"), [(S.ACTIVE, 200), (S.PROBATION, 202), (S.REFUSED, 400), (S.UNAVAILABLE, 503)]
)
def test_the_section_is_answered_as_plug_and_play_defines_it(state: ModelState, code: int) -> None:
    """200 accepted, 202 in progress, 400 refused, 503 tried again."""
    assert State(state).reported()["model"]["ac"] == code


def test_a_candidate_that_is_half_known_hides_the_last_one() -> None:
    """Patches merge, so the unknown fields of a candidate are reported as null."""
    report = State(S.REFUSED, rejected={"name": "x"}).reported()
    assert report["modelStatus"]["candidate"] == {"name": "x", "version": None, "sha256": None}
    assert State(S.REFUSED, rejected={}).reported()["modelStatus"]["candidate"] is None


def test_the_disk_is_reported_if_nothing_else_is_wrong() -> None:
    """The reason of the desired model comes first."""
    full, bad = Reason("disk-full", "no space"), Reason("bad-section", "no")
    assert State(S.ACTIVE, disk=full).reported()["modelStatus"]["error"]["code"] == "disk-full"
    assert State(S.REFUSED, disk=full, reason=bad).reported()["modelStatus"]["error"]["code"] == "bad-section"


def test_the_diagram_shows_the_table() -> None:
    """Every row and every state is in the diagram."""
    drawn = diagram()
    assert drawn.startswith("stateDiagram-v2\n")
    for _, trigger, _, _ in TRANSITIONS:
        assert f": {trigger.value}" in drawn
    for state in S:
        assert state.value in drawn
    assert "checking --> proving: verified / prove" in drawn
    assert "proving --> proving: failed / withdraw" in drawn
    assert BUSY | AT_REST == ANY
