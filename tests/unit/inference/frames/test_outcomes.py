"""The counters: one for each outcome of a frame."""

from inference.frames.in_hand import _COUNTERS_AT, _PROCESS_BYTES
from inference.frames.outcomes import COUNTERS, Outcome, Outcomes


def test_the_body_holds_every_outcome() -> None:
    """Every counter is reported; `suppressed` is the sum of its reasons."""
    outcomes = Outcomes()
    for times, outcome in enumerate(Outcome, start=1):
        for _ in range(times):
            outcomes.add(outcome)
    assert outcomes.body() == {
        "answered": 1,
        "suppressed": 2 + 3 + 4 + 5,
        "repeats": 6,
        "bad_clock": 0,
        "suppressedBy": {"off": 2, "unchanged": 3, "certain": 4, "budget": 5},
        "dropped": {
            "overload": 7,
            "bad_frame": 8,
            "no_model": 9,
            "outbox": 10,
            "engine": 11,
            "stopped": 12,
            "lost_in_restart": 13,
        },
    }
    assert outcomes.finished == sum(range(1, 14))


def test_the_counters_fit_into_the_file_that_survives_a_kill() -> None:
    """Each has eight bytes in the record of a process."""
    assert _COUNTERS_AT + 8 * len(COUNTERS) <= _PROCESS_BYTES
