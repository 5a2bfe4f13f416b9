"""Probation: fifty answered frames, three exceptions, one budget."""

import pytest

from inference.models.active_model import Probation, ProbationResult


def run(probation: Probation, *invokes_ms: float) -> list[ProbationResult | None]:
    return [probation.answered(each) for each in invokes_ms]


def test_fifty_good_frames_end_it_well() -> None:
    """The fiftieth answer ends probation, no earlier one does."""
    endings = run(Probation(5.0), *[4.9] * 50)
    assert endings[:49] == [None] * 49
    assert endings[49] == ProbationResult()


def test_three_exceptions_end_it_badly() -> None:
    """Two exceptions are borne, the third withdraws the model."""
    probation = Probation(5.0)
    assert probation.failed(RuntimeError("one")) is None
    run(probation, *[1.0] * 20)
    assert probation.failed(RuntimeError("two")) is None
    ending = probation.failed(ValueError("three\nlines"))
    assert ending is not None
    assert ending.failure is not None
    assert ending.failure.code == "engine-errors"
    assert "ValueError: three lines" in ending.failure.message


def test_an_exception_is_no_answer() -> None:
    """A frame that the model did not answer does not bring the end nearer."""
    probation = Probation(5.0)
    probation.failed(RuntimeError())
    assert run(probation, *[1.0] * 49)[-1] is None
    assert probation.answered(1.0) == ProbationResult()


@pytest.mark.parametrize("slow", range(5))
def test_p95_over_the_budget_ends_it_badly(slow: int) -> None:
    """Of fifty times the 48th is p95: two slow frames pass, three do not, wherever they come."""
    times = [9.0] * slow + [1.0] * (50 - slow)
    for invokes_ms in (times, times[::-1]):
        endings = [ending for ending in run(Probation(5.0), *invokes_ms) if ending]
        p95_ms = sorted(invokes_ms)[47]
        failure = endings[0].failure
        assert (failure is None) == (p95_ms <= 5.0)
        assert failure is None or failure.code == "too-slow"


def test_it_does_not_wait_for_what_is_settled() -> None:
    """The third slow frame decides: no need to make forty-seven more wait."""
    assert run(Probation(5.0), 6.0, 7.0, 8.0)[-1] is not None


def test_the_budget_itself_is_within_the_budget() -> None:
    """Exactly the budget is not over it."""
    assert run(Probation(5.0), *[5.0] * 50)[-1] == ProbationResult()
