"""The sum of the swap measurement: which model had its turn, what is steady and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from twinship.bench.scenarios.models.swap import Course, figures, out_of_turn
from twinship.demo.report import Answer, Sent, Upstream

A, B = "a" * 64, "b" * 64


def answer(seq: int, sha256: str, total_ms: float = 1.0) -> Answer:
    """One prediction; all of its time is `transit`."""
    return Answer(("camera", "run", seq), "i", "0", "1", sha256, "w", {"transit": total_ms})


def captured(count: int) -> dict[Any, int]:
    """Frame n was captured at n."""
    return {("camera", "run", seq): seq for seq in range(count)}


@pytest.mark.parametrize(
    ("models", "answers", "wrong"),
    [
        ([A, B, A], [A, A, B, B, A], 0),
        ([A, B], [A, B, A, B], 1),  # A once more after B had taken over
        ([A, B, A], [A, B, B], 1),  # the last one never answered
        ([A, B], [A, "c" * 64, B], 1),  # a stranger
    ],
)
def test_each_model_answers_in_its_turn_only(models: list[str], answers: list[str], wrong: int) -> None:
    """A model that answers after its turn, before it, or not at all is counted."""
    found = [answer(seq, sha256) for seq, sha256 in enumerate(answers)]
    assert out_of_turn(Course(models), captured(len(answers)), found) == wrong


def test_after_a_rollback_returned_only_the_earlier_model_answers() -> None:
    """The first frame captured after the method's answer decides, not the first one that is right."""
    answers = [answer(0, A), answer(1, B), answer(2, B), answer(3, A)]
    assert out_of_turn(Course([A, B, A], returned=[(2, 9, A)]), captured(4), answers) == 0
    assert out_of_turn(Course([A, B, A], returned=[(1, 9, A)]), captured(4), answers) == 1


def test_the_two_ledgers_are_added_up() -> None:
    """Lost is what nobody answered, doubled what came twice; the ratio compares the two phases."""
    answers = [answer(0, A, 2.0), answer(1, A, 2.0), answer(2, B, 3.0), answer(2, B, 3.0), answer(4, B, 9.0)]
    publish_ms = {each.key: 1.0 for each in answers}
    sent = [Sent(("camera", "run", seq), "0", seq, seq) for seq in range(5)]
    course = Course([A, B], began=1, swaps=(2, 4), rollbacks=4, install_ms=[5.0], rollback_ms=[])
    course.rollback_ms, course.install_ms = [7.0], [5.0, 6.0]
    found = figures(course, sent, Upstream(tuple(answers), publish_ms, {}, 0))
    assert (found["frames"], found["lost"], found["dropped"], found["doubled"]) == (5, 1, 0, 1)
    assert found["swaps"] == 1
    assert found["p99_ratio"] == pytest.approx(4.0 / 3.0, abs=0.001)
    assert found["install_ms"] == {"p50": 5.0, "p99": 6.0}
    assert found["rollback_ms"] == {"p50": 7.0, "p99": 7.0, "n": 1}
