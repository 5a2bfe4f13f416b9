"""The numbered messages of the hop measurement."""

from __future__ import annotations

import pytest

from twinship.bench import BenchFailed
from twinship.bench.scenarios.hub.hop import Login, Messages, Task
from twinship.simulator.mqtt.packets import Puback

TASK = Task(
    address="127.0.0.1",
    port=8883,
    ca="ca.pem",
    sender=Login("a", "u", "p"),
    receiver=Login("b", "u", "p"),
    publish_to="t",
    subscribe_to="t",
    body_bytes=64,
    pairs=1,
    stream=1,
)


def test_messages_in_order_are_acknowledged() -> None:
    """Each has the requested length, and its PUBACK has its packet id."""
    messages = Messages(TASK)
    made = [messages.make() for _ in range(3)]
    assert {len(each.body) for each in made} == {64}
    assert [messages.check(each) for each in made] == [Puback(each.packet_id or 0) for each in made]


@pytest.mark.parametrize("arrives", [(1,), (0, 0), (0, 2)], ids=["the first lost", "doubled", "one lost"])
def test_any_other_order_ends_the_measurement(arrives: tuple[int, ...]) -> None:
    """A lost or repeated message makes the figures invalid."""
    messages = Messages(TASK)
    made = [messages.make() for _ in range(3)]
    *good, wrong = arrives
    for index in good:
        messages.check(made[index])
    with pytest.raises(BenchFailed, match="arrived instead of"):
        messages.check(made[wrong])


def test_a_task_survives_its_json_text() -> None:
    """JSON on stdin keeps the passwords off the command line."""
    assert Task.from_json(TASK.to_json()) == TASK
