"""The serving model and its probation: fifty answered frames, three exceptions, one budget."""

import pytest

from inference.models.active_model import ActiveModel, Probation, ProbationResult
from inference.models.installer import Running
from tests.unit.inference.fixtures.doubles import running


def run(probation: Probation, *invokes_ms: float) -> list[ProbationResult | None]:
    return [probation.answered(each) for each in invokes_ms]


def test_fifty_good_frames_end_it_well() -> None:
    """The fiftieth answer ends probation, no earlier one does."""
    endings = run(Probation(5.0), *[4.9] * 50)
    assert endings[:49] == [None] * 49
    assert endings[49] == ProbationResult()


def test_three_exceptions_end_it_badly() -> None:
    """Two exceptions are tolerated, the third withdraws the model."""
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
    """A frame without an answer does not count towards the fifty."""
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


@pytest.mark.parametrize(
    ("times_s", "passed"),
    [([10, 20, 30, 40, 599], 0), ([10, 20, 30, 40, 600], 1), ([10, 20, 30, 600], 0), ([1, 800], 0)],
)
def test_a_slow_camera_ends_it_after_ten_minutes(times_s: list[float], passed: bool) -> None:
    """At least five frames must be answered by then; otherwise the fifth one ends it."""
    probation = Probation(5.0, began_s=1000.0)
    endings = [probation.answered(1.0, 1000.0 + time_s) for time_s in times_s]
    assert endings[:-1] == [None] * (len(times_s) - 1)
    assert endings[-1] == (ProbationResult() if passed else None)


def test_a_few_slow_frames_of_a_slow_camera_pass() -> None:
    """Three slow frames fail a probation of any length."""
    probation = Probation(5.0)
    assert [probation.answered(ms, 601.0) for ms in (9.0, 9.0, 1.0, 1.0, 1.0)][-1] == ProbationResult()
    probation = Probation(5.0)
    ending = [probation.answered(ms, 601.0) for ms in (9.0, 9.0, 9.0)][-1]
    assert ending is not None
    assert ending.failure is not None


def test_the_third_slow_frame_ends_it() -> None:
    """It does not wait for forty-seven more."""
    assert run(Probation(5.0), 6.0, 7.0, 8.0)[-1] is not None


def test_the_budget_itself_is_within_the_budget() -> None:
    """Exactly the budget is not over it."""
    assert run(Probation(5.0), *[5.0] * 50)[-1] == ProbationResult()


Ends = list[tuple[Running, ProbationResult]]


@pytest.fixture
def ends() -> Ends:
    """The probations that ended."""
    return []


@pytest.fixture
def active(ends: Ends) -> ActiveModel:
    """A new model on probation, with a model before it."""
    active = ActiveModel(lambda model, result: ends.append((model, result)))
    active.set(NEW, OLD, Probation(5.0, frames=2))
    return active


OLD, NEW = running(version="1.0.0"), running(version="2.0.0")


def test_the_old_model_serves_the_frames_on_which_a_new_one_raises(active: ActiveModel, ends: Ends) -> None:
    """After the third exception it serves all frames."""
    for _ in range(3):
        assert active.current is NEW
        assert active.failed(NEW, RuntimeError("no")) is OLD
    assert active.current is OLD
    assert [(model, result.failure and result.failure.code) for model, result in ends] == [
        (NEW, "engine-errors")
    ]


def test_without_an_old_model_no_model_serves(active: ActiveModel, ends: Ends) -> None:
    """There is nothing to go back to."""
    active.set_previous(None)
    assert [active.failed(NEW, RuntimeError("no")) for _ in range(3)] == [None] * 3
    assert active.current is None
    assert len(ends) == 1


def test_a_slow_model_is_replaced_at_once(active: ActiveModel, ends: Ends) -> None:
    """Not when the reconciler comes to it."""
    active.answered(NEW, 6.0)
    assert active.current is OLD
    assert len(ends) == 1


def test_errors_after_probation_do_not_replace_the_model(active: ActiveModel, ends: Ends) -> None:
    """The old model serves the frame all the same."""
    active.answered(NEW, 1.0)
    active.answered(NEW, 1.0)
    assert ends == [(NEW, ProbationResult())]
    assert [active.failed(NEW, RuntimeError("no")) for _ in range(5)] == [OLD] * 5
    assert active.current is NEW
    assert len(ends) == 1


def test_the_serving_model_is_watched_by_the_clock(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five answers are enough from the tenth minute on, and not before."""
    active = ActiveModel(lambda model, result: ends.append((model, result)))
    active.set(NEW, OLD, Probation(5.0, began_s=1_000.0))
    monkeypatch.setattr("inference.models.active_model.monotonic", lambda: 1_599.0)
    for _ in range(5):
        active.answered(NEW, 1.0)
    assert ends == []
    monkeypatch.setattr("inference.models.active_model.monotonic", lambda: 1_600.0)
    active.answered(NEW, 1.0)
    assert ends == [(NEW, ProbationResult())]


def test_frames_of_another_model_do_not_count(active: ActiveModel, ends: Ends) -> None:
    """A frame in flight may end with the model before."""
    for _ in range(5):
        active.answered(OLD, 100.0)
        assert active.failed(OLD, RuntimeError("no")) is None
    assert active.current is NEW
    assert ends == []
