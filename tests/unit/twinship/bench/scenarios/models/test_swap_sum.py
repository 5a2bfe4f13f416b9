"""The figures of the swap measurement."""

from __future__ import annotations

from typing import Any

import pytest

from twinship.bench.scenarios.models.swap import Timeline, figures, out_of_turn
from twinship.demo.report import Answer, Sent, Upstream

A, B = "a" * 64, "b" * 64


def answer(seq: int, sha256: str, total_ms: float = 1.0) -> Answer:
    """One prediction that spent all of its time in `transit`."""
    return Answer(("camera", "run", seq), "0", "1", sha256, "w", {"transit": total_ms})


def captured(count: int) -> dict[Any, int]:
    """Frame n was captured at n ns."""
    return {("camera", "run", seq): seq for seq in range(count)}


@pytest.mark.parametrize(
    ("models", "answers", "wrong"),
    [
        ([A, B, A], [A, A, B, B, A], 0),
        ([A, B], [A, B, A, B], 1),  # A again after B
        ([A, B, A], [A, B, B], 1),  # the last model never answered
        ([A, B], [A, "c" * 64, B], 1),  # an unknown model
    ],
)
def test_each_model_answers_in_its_turn_only(models: list[str], answers: list[str], wrong: int) -> None:
    """A model that answers before or after its turn, or never, is counted."""
    found = [answer(seq, sha256) for seq, sha256 in enumerate(answers)]
    assert out_of_turn(Timeline(models), captured(len(answers)), found) == wrong


def test_after_a_rollback_returned_only_the_earlier_model_answers() -> None:
    """This holds from the first frame that was captured after the method's answer."""
    answers = [answer(0, A), answer(1, B), answer(2, B), answer(3, A)]
    assert out_of_turn(Timeline([A, B, A], returned=[(2, 9, A)]), captured(4), answers) == 0
    assert out_of_turn(Timeline([A, B, A], returned=[(1, 9, A)]), captured(4), answers) == 1


def test_the_send_log_and_the_answers_are_added_up() -> None:
    """`lost` frames have no answer, `doubled` ones have two; the ratio compares the two phases."""
    answers = [answer(0, A, 2.0), answer(1, A, 2.0), answer(2, B, 3.0), answer(2, B, 3.0), answer(4, B, 9.0)]
    publish_ms = {each.key: 1.0 for each in answers}
    sent = [Sent(("camera", "run", seq), "0", seq) for seq in range(5)]
    timeline = Timeline([A, B], began=1, swaps=(2, 4), rollbacks=4, install_ms=[5.0], rollback_ms=[])
    timeline.rollback_ms, timeline.install_ms = [7.0], [5.0, 6.0]
    found = figures(timeline, sent, Upstream(tuple(answers), publish_ms, {}, 0))
    assert (found["frames"], found["lost"], found["dropped"], found["doubled"]) == (5, 1, 0, 1)
    assert found["swaps"] == 1
    assert found["p99_ratio"] == pytest.approx(4.0 / 3.0, abs=0.001)
    assert found["install_ms"] == {"p50": 5.0, "p99": 6.0}
    assert found["rollback_ms"] == {"p50": 7.0, "p99": 7.0, "n": 1}
