"""The numbered messages of the hop measurement: what is lost, doubled or out of order ends it."""

from __future__ import annotations

import pytest

from twinship.bench import BenchFailed
from twinship.bench.scenarios.hub.hop import Login, Messages, Order
from twinship.simulator.mqtt.packets import Puback

ORDER = Order(
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


def test_messages_in_their_order_are_acknowledged() -> None:
    """Each by its own packet id, and each as long as was asked for."""
    messages = Messages(ORDER)
    made = [messages.make() for _ in range(3)]
    assert {len(each.body) for each in made} == {64}
    assert [messages.check(each) for each in made] == [Puback(each.packet_id or 0) for each in made]


@pytest.mark.parametrize("arrives", [(1,), (0, 0), (0, 2)], ids=["the first lost", "doubled", "one lost"])
def test_any_other_order_ends_the_measurement(arrives: tuple[int, ...]) -> None:
    """A broker that loses or doubles has no figure."""
    messages = Messages(ORDER)
    made = [messages.make() for _ in range(3)]
    *good, wrong = arrives
    for index in good:
        messages.check(made[index])
    with pytest.raises(BenchFailed, match="arrived in the place of"):
        messages.check(made[wrong])


def test_an_order_reaches_the_process_as_it_was_given() -> None:
    """By JSON: keys are not on a command line."""
    assert Order.from_json(ORDER.to_json()) == ORDER
