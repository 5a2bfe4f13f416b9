"""The counters: one for each outcome of a frame."""

from inference.frames.outcomes import Outcome, Outcomes


def test_the_body_holds_every_outcome() -> None:
    """Every counter is reported."""
    outcomes = Outcomes()
    for times, outcome in enumerate(Outcome, start=1):
        for _ in range(times):
            outcomes.add(outcome)
    assert outcomes.body() == {
        "answered": 1,
        "suppressed": 2,
        "repeats": 3,
        "bad_clock": 0,
        "dropped": {
            "overload": 4,
            "bad_frame": 5,
            "no_model": 6,
            "outbox": 7,
            "engine": 8,
            "stopped": 9,
            "lost_in_restart": 10,
        },
    }
    assert outcomes.finished == sum(range(1, 11))
