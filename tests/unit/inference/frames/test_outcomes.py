"""The counters: one for each way in which a frame can end."""

from inference.frames.outcomes import Outcome, Outcomes


def test_every_outcome_has_its_place_in_the_body() -> None:
    """No frame ends in a counter that nobody can read."""
    outcomes = Outcomes()
    for times, outcome in enumerate(Outcome, start=1):
        for _ in range(times):
            outcomes.end(outcome)
    assert outcomes.body() == {
        "answered": 1,
        "suppressed": 2,
        "repeats": 3,
        "dropped": {"overload": 4, "bad_frame": 5, "no_model": 6, "outbox": 7, "engine": 8, "stopped": 9},
    }
    assert outcomes.ended == sum(range(1, 10))
